// One program per label that operands refuse.
// RUN: moe-opt %s --split-input-file --verify-diagnostics

// extent_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    // expected-error @below {{coefficient -4 of an extent must not be negative}}
    sched.buffer @a arena size -4*T
  }
}

// -----

// extent_c1: in an attribute
// expected-error @below {{coefficient -1 of an extent must not be negative}}
module attributes {test.extent = #sched.extent<-1>} {
}

// -----

// an extent knows T, M, B and B*C
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    // expected-error @below {{'X' must be T, M, B or B*C}}
    sched.buffer @a arena size 4*X
  }
}

// -----

// grid_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{divisor 0 of a grid must be at least 1}}
      sched.launch @k grid(T ceildiv 0) ()
    }
  }
}

// -----

// grid_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{cap -1 of a grid must not be negative}}
      sched.launch @k grid(T cap -1) ()
    }
  }
}

// -----

// grid_c3
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{factor 0 of a grid must be at least 1}}
      sched.launch @k grid(T times 0) ()
    }
  }
}

// -----

// slice_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{offset -4 into @arena must not be negative}}
      sched.fill (write @arena[-4, 4]) value 0
    }
  }
}

// -----

// slice_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 4096 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  sched.tensor @t : tensor<16xf32> in @f[0]
  sched.variant "cpu" {
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.fill' op buffer @t must be a sched.buffer or sched.constant of the variant}}
      sched.fill (write @t[0, 4]) value 0
    }
  }
}

// -----

// slice_c3
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.fill' op #sched.slice<write @arena[1, 1024*T]> must end inside its buffer: at T = 4 it ends at byte 4097 of 4096}}
      sched.fill (write @arena[1, 1024*T]) value 0
    }
  }
}

// -----

// slice_c3: by a constant
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @state state size 8*B*C
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.fill' op #sched.slice<write @state[0, 1 + 8*B*C]> must end inside its buffer: at T = 1 it ends at byte 9 of 8}}
      sched.fill (write @state[0, 1 + 8*B*C]) value 0
    }
  }
}

// -----

// slice_c3: at some B and C
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @state state size 8*B*C
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.fill' op #sched.slice<write @state[0, 9*B*C]> must not grow faster with B and C than its buffer (#sched.extent<8*B*C>)}}
      sched.fill (write @state[0, 9*B*C]) value 0
    }
  }
}

// -----

// slice_c3: an output is measured at the step's own M
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @logits output size 32*M
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.fill' op #sched.slice<write @logits[0, 64]> must end inside its buffer: at T = 1 it ends at byte 64 of 32}}
      sched.fill (write @logits[0, 64]) value 0
    }
  }
}

// -----

// slice_c4
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @tokens input size 4*T
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.fill' op #sched.slice<write @tokens[0, 4*T]> must not write an input}}
      sched.fill (write @tokens[0, 4*T]) value 0
    }
  }
}

// -----

// slice_c4: constants
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.constant @c "00000000"
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.fill' op #sched.slice<write @c[0, 4]> must not write a constant}}
      sched.fill (write @c[0, 4]) value 0
    }
  }
}

// -----

// span_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 4096 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  sched.tensor @t : tensor<16xf32> in @f[0]
  sched.variant "cpu" {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{offset -1 into @t must not be negative}}
      sched.launch @k grid(T) (weight @t[-1])
    }
  }
}

// -----

// span_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 4096 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  sched.tensor @t : tensor<16xf32> in @f[0]
  sched.variant "cpu" {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{extent 0 of @t must be positive: leave it out for the rest of the tensor}}
      sched.launch @k grid(T) (weight @t[0, 0])
    }
  }
}

// -----

// span_c3
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 4096 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  sched.variant "cpu" {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.launch' op tensor @f must be a sched.tensor of the program}}
      sched.launch @k grid(T) (weight @f[0])
    }
  }
}

// -----

// span_c4
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 4096 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  sched.tensor @t : tensor<16xf32> in @f[0]
  sched.variant "cpu" {
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.fill' op #sched.weight<write weight @t[0, 4]> must not be written: only an initializer writes, and only its own result}}
      sched.fill (write weight @t[0, 4]) value 0
    }
  }
}

// -----

// span_c5
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 4096 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  sched.tensor @t : tensor<16xf32> in @f[0]
  sched.variant "cpu" {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.launch' op #sched.weight<weight @t[60, 8]> must end inside its buffer: at T = 1 it ends at byte 68 of 64}}
      sched.launch @k grid(T) (weight @t[60, 8])
    }
  }
}

// -----

// span_c6
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 4096 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  sched.tensor @t : tensor<16xf32> in @f[0]
  sched.variant "cpu" {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.launch' op #sched.weight<weight @t[0, 4*T]> must have a fixed extent: a tensor has no dynamic dim}}
      sched.launch @k grid(T) (weight @t[0, 4*T])
    }
  }
}

// -----

// slice_c2: an initializer has buffers of its own
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.tensor @r computed : tensor<16xf32>
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.initializer @r {
      // expected-error @below {{'sched.fill' op buffer @arena must be a sched.buffer or sched.constant of the initializer}}
      sched.fill (write @arena[0, 4]) value 0
    }
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// operands have eight forms
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 4096 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  sched.tensor @t : tensor<16xf32> in @f[0]
  sched.variant "cpu" {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{'tensor' must be read, write, readwrite, weight, table, tensor_map, size or constant}}
      sched.launch @k grid(T) (tensor @t)
    }
  }
}

// -----

// sizes have names
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{'E' must be T, M, B, C, Tmax, ranks or rank}}
      sched.launch @k grid(T) (size E)
    }
  }
}

// -----

// span_c7
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.tensor @w : tensor<16x16xf32>
  sched.table @t [@w, @w[64], @w[128]]
  sched.variant "cpu" ranks 2 {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{per_rank -64 of @w must not be negative}}
      sched.launch @k grid(1) (weight @w[0, 64] per_rank -64)
    }
  }
}

// -----

// span_c8: without an extent
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.tensor @w : tensor<16x16xf32>
  sched.table @t [@w, @w[64], @w[128]]
  sched.variant "cpu" ranks 2 {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.launch' op #sched.weight<weight @w[0] per_rank 512> must be read, with an extent: a rank's part ends where the next one begins}}
      sched.launch @k grid(1) (weight @w[0] per_rank 512)
    }
  }
}

// -----

// span_c5: of the last rank
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.tensor @w : tensor<16x16xf32>
  sched.table @t [@w, @w[64], @w[128]]
  sched.variant "cpu" ranks 4 {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.launch' op #sched.weight<weight @w[0, 512] per_rank 256> must end inside its tensor: for rank 3 it ends at byte 1280 of 1024}}
      sched.launch @k grid(1) (weight @w[0, 512] per_rank 256)
    }
  }
}

// -----

// table_c5
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.tensor @w : tensor<16x16xf32>
  sched.table @t [@w, @w[64], @w[128]]
  sched.variant "cpu" ranks 2 {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.launch' op table @t with 2 entries per rank must hold those of 2 ranks, but holds 3}}
      sched.launch @k grid(1) (table @t per_rank 2)
    }
  }
}

// -----

// table_c5: negative
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.tensor @w : tensor<16x16xf32>
  sched.table @t [@w, @w[64], @w[128]]
  sched.variant "cpu" ranks 2 {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{per_rank -1 of @t must not be negative}}
      sched.launch @k grid(1) (table @t per_rank -1)
    }
  }
}

// -----

// span_c8: a result
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.tensor @r computed : tensor<16xf32>
  sched.variant "cpu" ranks 2 {
    sched.kernel @k
    sched.initializer @r {
      // expected-error @below {{'sched.launch' op #sched.weight<write weight @r[0, 32] per_rank 32> must be read, with an extent: a rank's part ends where the next one begins}}
      sched.launch @k grid(1) (write weight @r[0, 32] per_rank 32)
    }
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// tensor_map_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype bf16 {
  sched.tensor @w : tensor<16x24xbf16>
  sched.tensor @r computed : tensor<16xbf16>
  sched.table @t [@w, @w[480]]
  sched.variant "cuda:sm_90a" {
    sched.kernel @k threads 128
    sched.step tokens 1 to 4 {
      // expected-error @below {{tensor map must have rows and columns and boxes of 1 to 256 rows, got 16, 24 and 257}}
      sched.launch @k grid(1) (tensor_map weight @w[0] rows 16 columns 24 box 257)
    }
  }
}

// -----

// tensor_map_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype bf16 {
  sched.tensor @w : tensor<16x24xbf16>
  sched.tensor @r computed : tensor<16xbf16>
  sched.table @t [@w, @w[480]]
  sched.variant "cuda:sm_90a" {
    sched.kernel @k threads 128
    sched.initializer @r {
      // expected-error @below {{must not stand in an initializer}}
      sched.launch @k grid(1) (tensor_map weight @w[0] rows 16 columns 24 box 16)
    }
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// tensor_map_c3
sched.program vocab 8 max_tokens 4 max_context 0 dtype bf16 {
  sched.tensor @w : tensor<16x24xbf16>
  sched.tensor @r computed : tensor<16xbf16>
  sched.table @t [@w, @w[480]]
  sched.variant "cuda:sm_90a" {
    sched.kernel @k threads 128
    sched.step tokens 1 to 4 {
      // expected-error @below {{must have rows and offsets of a multiple of 16 bytes, got rows of 8 at offset 0}}
      sched.launch @k grid(1) (tensor_map weight @w[0] rows 16 columns 4 box 16)
    }
  }
}

// -----

// tensor_map_c4: of a weight
sched.program vocab 8 max_tokens 4 max_context 0 dtype bf16 {
  sched.tensor @w : tensor<16x24xbf16>
  sched.tensor @r computed : tensor<16xbf16>
  sched.table @t [@w, @w[480]]
  sched.variant "cuda:sm_90a" {
    sched.kernel @k threads 128
    sched.step tokens 1 to 4 {
      // expected-error @below {{must end inside tensor @w (768 bytes), but ends at byte 784}}
      sched.launch @k grid(1) (tensor_map weight @w[16] rows 16 columns 24 box 16)
    }
  }
}

// -----

// tensor_map_c4: of the second entry
sched.program vocab 8 max_tokens 4 max_context 0 dtype bf16 {
  sched.tensor @w : tensor<16x24xbf16>
  sched.tensor @r computed : tensor<16xbf16>
  sched.table @t [@w, @w[480]]
  sched.variant "cuda:sm_90a" {
    sched.kernel @k threads 128
    sched.step tokens 1 to 4 {
      // expected-error @below {{must end inside tensor @w (768 bytes), but ends at byte 864}}
      sched.launch @k grid(1) (tensor_map table @t rows 8 columns 24 box 16)
    }
  }
}
