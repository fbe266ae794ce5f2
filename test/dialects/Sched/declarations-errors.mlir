// One program per label that declarations refuse.
// RUN: moe-opt %s --split-input-file --verify-diagnostics

// program_c1
// expected-error @below {{'sched.program' op must hold only files, package files, tensors, tables and variants, got 'builtin.module'}}
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  builtin.module {
  }
}

// -----

// program_c2
// expected-error @below {{'sched.program' op metadata 'n' must be a string, got 1 : i64}}
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 metadata {n = 1 : i64} {
}

// -----

// file_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.file' op header must be 64 lower-case hexadecimal digits, got "9F86"}}
  sched.file @f size 1 mtime_ns 0 header "9F86"
}

// -----

// file_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.file' op sha256 must be 64 lower-case hexadecimal digits, got ""}}
  sched.file @f size 1 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" sha256 ""
}

// -----

// file_c3
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.file' op in_package must have the sha256 of the whole file: its time says nothing}}
  sched.file @f size 1 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" in_package
}

// -----

// package_file_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.package_file' op sha256 must be 64 lower-case hexadecimal digits, got "00"}}
  sched.package_file "a" size 1 sha256 "00"
}

// -----

// tensor_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.tensor' op element type 'index' must be one that a checkpoint stores}}
  sched.tensor @t : tensor<4xindex>
}

// -----

// tensor_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.tensor' op rank 4 must be at most 3: fold leading dims}}
  sched.tensor @t : tensor<1x2x3x4xf32>
}

// -----

// tensor_c3
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.tensor' op dim 1 of 'tensor<4x?xf32>' must be static}}
  sched.tensor @t : tensor<4x?xf32>
}

// -----

// tensor_c4
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.tensor' op the size of 'tensor<4294967296x4294967296xf32>' must be below 2^63 bits}}
  sched.tensor @t : tensor<4294967296x4294967296xf32>
}

// -----

// tensor_c5
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.tensor' op file and offset must be given together: offset is missing}}
  "sched.tensor"() <{sym_name = "t", type = tensor<4xf32>, file = @f}> : () -> ()
}

// -----

// tensor_c6
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 16 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  // expected-error @below {{'sched.tensor' op a computed tensor has no place in a file, but lies in @f}}
  sched.tensor @t computed : tensor<4xf32> in @f[0]
}

// -----

// tensor_c7
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.tensor' op file @t must be a sched.file of the program}}
  sched.tensor @t : tensor<4xf32> in @t[0]
}

// -----

// tensor_c8
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 16 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  // expected-error @below {{'sched.tensor' op bytes 1 to 17 must lie inside @f (16 bytes)}}
  sched.tensor @t : tensor<4xf32> in @f[1]
}

// -----

// table_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.table' op must have at least 1 entry, got 0}}
  sched.table @w []
}

// -----

// table_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.tensor @t : tensor<4xf32>
  // expected-error @below {{'sched.table' op entry must be a tensor and an offset, got #sched.weight<weight @t[0, 4]>}}
  "sched.table"() <{sym_name = "w", entries = [#sched.weight<weight @t[0, 4]>]}> : () -> ()
}

// -----

// table_c3
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.table' op entry @w must be a sched.tensor of the program}}
  sched.table @w [@w]
}

// -----

// table_c3: also of a table that stands behind the variant that uses it
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "x86-64-v3" {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      sched.launch @k grid(1) (table @w)
    }
  }
  // expected-error @below {{'sched.table' op entry @missing must be a sched.tensor of the program}}
  sched.table @w [@missing]
}

// -----

// table_c4
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.tensor @t : tensor<4xf32>
  // expected-error @below {{'sched.table' op offset 16 must lie inside tensor @t (16 bytes)}}
  sched.table @w [@t[12], @t[16]]
}

// -----

// variant_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.variant' op blob and sha256 must be given together: sha256 is missing}}
  "sched.variant"() <{target = "cpu", blob = "k.so"}> ({
  ^bb0:
  }) : () -> ()
}

// -----

// variant_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.variant' op sha256 must be 64 lower-case hexadecimal digits, got "zz"}}
  sched.variant "cpu" blob "k.so" sha256 "zz" {
  }
}

// -----

// variant_c3
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-note @below {{used here before}}
  sched.variant "cpu" {
    sched.step tokens 1 to 4 {
    }
  }
  // expected-error @below {{'sched.variant' op target "cpu" must be unique}}
  sched.variant "cpu" {
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// variant_c4
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.variant' op must hold only kernels, buffers, constants, initializers, steps and entries, got 'builtin.module'}}
  sched.variant "cpu" {
    builtin.module {
    }
  }
}

// -----

// variant_c5
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.variant' op steps must cover 1 to 4 tokens (max_tokens), but cover 1 to 3}}
  sched.variant "cpu" {
    sched.step tokens 1 to 3 {
    }
  }
}

// -----

// variant_c5: too far
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.variant' op steps must cover 1 to 4 tokens (max_tokens), but cover 1 to 5}}
  sched.variant "cpu" {
    sched.step tokens 1 to 5 {
    }
  }
}

// -----

// step_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.step tokens 1 to 2 {
    }
    // expected-error @below {{'sched.step' op must start at 3 tokens, where the steps before end, got 2}}
    sched.step tokens 2 to 4 {
    }
  }
}

// -----

// step_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.step tokens 1 to 2 {
    }
    // expected-error @below {{'sched.step' op must end at or after its first token count 3, got 2}}
    sched.step tokens 3 to 2 {
    }
  }
}

// -----

// step_c3
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    // expected-error @below {{'sched.step' op must hold only commands, got 'builtin.module'}}
    sched.step tokens 1 to 4 {
      builtin.module {
      }
    }
  }
}

// -----

// buffer_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    // expected-error @below {{'sched.buffer' op alignment 48 must be a power of two up to 2097152}}
    sched.buffer @a arena size 4 align 48
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// buffer_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.tensor @r computed : tensor<16xf32>
  sched.variant "cpu" {
    sched.initializer @r {
      // expected-error @below {{'sched.buffer' op scratch of an initializer must be an arena of fixed size, got arena of size #sched.extent<4*T>}}
      sched.buffer @s arena size 4*T
    }
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// buffer_c3
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    // expected-error @below {{'sched.buffer' op input must be named tokens, seq, pos, runs or rows, or be an argument of an entry, got "ids"}}
    sched.buffer @ids input size 4*T
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// buffer_c4
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    // expected-error @below {{'sched.buffer' op size of input runs must hold #sched.extent<4 + 4*B>, got #sched.extent<4*B>}}
    sched.buffer @runs input size 4*B
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// buffer_c5
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    // expected-error @below {{'sched.buffer' op output must be logits of size #sched.extent<32*M> (f32 per row and id), or be a result of an entry, got logits of size #sched.extent<64*M>}}
    sched.buffer @logits output size 64*M
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// constant_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    // expected-error @below {{'sched.constant' op alignment 128 must be a power of two up to 64}}
    sched.constant @c "00" align 128
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// constant_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    // expected-error @below {{'sched.constant' op must hold 1 to 1048576 bytes, got 0: larger data belongs in the checkpoint or an initializer}}
    sched.constant @c ""
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// constant bytes are hexadecimal digits
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    // expected-error @below {{bytes must be an even number of hexadecimal digits, got 3 characters}}
    sched.constant @c "123"
  }
}

// -----

// The program file and the loader have a limit.
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-error @below {{'sched.variant' op attribute 'events' failed to satisfy constraint: 64-bit signless integer attribute whose value is non-negative whose maximum value is 1048576}}
  sched.variant "x86-64-v3" events 1048577 {
    sched.step tokens 1 to 4 {
    }
  }
}
