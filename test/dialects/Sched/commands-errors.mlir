// One program per label that commands refuse.
// RUN: moe-opt %s --split-input-file --verify-diagnostics

// command_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" streams 2 events 2 {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.launch' op stream 2 must be below the variant's number of streams, 2}}
      sched.launch @k grid(T) () stream 2
    }
  }
}

// -----

// command_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 4096 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  sched.tensor @t : tensor<16xf32> in @f[0]
  sched.variant "cpu" {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.launch' op table @t must be a sched.table of the program}}
      sched.launch @k grid(T) (table @t)
    }
  }
}

// -----

// command_c3
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.host_call' op operand must be a slice, weight, table, tensor map, size or constant, got 1 : i64}}
      "sched.host_call"() <{callee = "f", args = [1 : i64]}> : () -> ()
    }
  }
}

// -----

// command_c4
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  // expected-note @below {{declared here}}
  sched.tensor @r computed : tensor<16xf32>
  sched.variant "cpu" {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.launch' op tensor @r is computed, but no initializer before this computes it}}
      sched.launch @k grid(T) (weight @r[0])
    }
  }
}

// -----

// command_c4: through a table
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 4096 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  sched.tensor @t : tensor<16xf32> in @f[0]
  // expected-note @below {{declared here}}
  sched.tensor @r computed : tensor<16xf32>
  sched.table @w [@t, @r]
  sched.variant "cpu" {
    sched.kernel @k
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.launch' op tensor @r is computed, but no initializer before this computes it}}
      sched.launch @k grid(T) (table @w)
    }
  }
}

// -----

// launch_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.launch' op kernel @arena must be a sched.kernel of the variant}}
      sched.launch @arena grid(T) ()
    }
  }
}

// -----

// copy_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.copy' op must have 2 operands, destination and source, got 1}}
      sched.copy (write @arena[0, 4])
    }
  }
}

// -----

// copy_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.constant @c "00000000"
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.copy' op operand 0 must write a range of bytes with an extent, got #sched.slice<readwrite @arena[0, 4]>}}
      sched.copy (readwrite @arena[0, 4], read @c[0, 4])
    }
  }
}

// -----

// copy_c2: the source
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 4096 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  sched.tensor @t : tensor<16xf32> in @f[0]
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.copy' op operand 1 must read a range of bytes with an extent, got #sched.weight<weight @t[0]>}}
      sched.copy (write @arena[0, 4], weight @t[0])
    }
  }
}

// -----

// copy_c3
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.constant @c "00000000"
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.copy' op extent of the destination #sched.extent<8> must equal that of the source #sched.extent<4>}}
      sched.copy (write @arena[0, 8], read @c[0, 4])
    }
  }
}

// -----

// fill_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.fill' op must have 1 operand, the destination, got 0}}
      sched.fill () value 0
    }
  }
}

// -----

// fill_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.fill' op operand 0 must write a range of bytes with an extent, got #sched.size<size T>}}
      sched.fill (size T) value 0
    }
  }
}

// -----

// fill value is a byte
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.fill' op attribute 'value' failed to satisfy constraint: 64-bit signless integer attribute whose value is non-negative whose maximum value is 255}}
      sched.fill (write @arena[0, 4]) value 256
    }
  }
}

// -----

// collective_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.collective' op operand 0 must readwrite a range of bytes with an extent, got #sched.slice<write @arena[0, 4]>}}
      sched.collective all_reduce_sum of f32 (write @arena[0, 4])
    }
  }
}

// -----

// collective_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.collective' op must have 2 operands, destination and source, or 1 in place, got 0}}
      sched.collective all_reduce_sum of f32 ()
    }
  }
}

// -----

// collective_c3
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.collective' op operand 1 must read a range of bytes with an extent, got #sched.slice<write @arena[4, 4]>}}
      sched.collective all_gather (write @arena[0, 4], write @arena[4, 4])
    }
  }
}

// -----

// collective_c2: an exchange
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.collective' op must have 4 operands, received rows, rows to send and their counts, got 2}}
      sched.collective exchange row_bytes 4 (write @arena[0, 4], read @arena[4, 4])
    }
  }
}

// -----

// collective_c3: the counts of an exchange
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.collective' op operand 2 must write a range of bytes with an extent, got #sched.slice<read @arena[8, 4]>}}
      sched.collective exchange row_bytes 4 (write @arena[0, 4], read @arena[4, 4], read @arena[8, 4], read @arena[12, 4])
    }
  }
}

// -----

// collective_c4
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.collective' op all_gather must have a destination and a source: only all_reduce_sum works in place}}
      sched.collective all_gather (readwrite @arena[0, 4])
    }
  }
}

// -----

// collective_c5
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.collective' op all_reduce_sum must say the element type that it sums, such as 'of f32'}}
      sched.collective all_reduce_sum (readwrite @arena[0, 4])
    }
  }
}

// -----

// collective_c5: a copy
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.collective' op all_gather must have no element type: it copies bytes}}
      sched.collective all_gather of f32 (write @arena[0, 4], read @arena[4, 4])
    }
  }
}

// -----

// collective_c6
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.collective' op exchange must say the bytes of a row: 'row_bytes 512'}}
      sched.collective exchange (write @arena[0, 4], read @arena[4, 4], write @arena[8, 4], read @arena[12, 4])
    }
  }
}

// -----

// collective_c6: no exchange
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.collective' op all_gather must have no row_bytes: only an exchange counts rows}}
      sched.collective all_gather row_bytes 4 (write @arena[0, 4], read @arena[4, 4])
    }
  }
}

// -----

// collective_c7: a gather
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" ranks 2 {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.collective' op all_gather among 2 ranks must have an extent of operand 0 (#sched.extent<4*T>) that is 2 times that of operand 1 (#sched.extent<4*T>)}}
      sched.collective all_gather (write @arena[0, 4*T], read @arena[64, 4*T])
    }
  }
}

// -----

// collective_c7: a scatter
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" ranks 2 {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.collective' op reduce_scatter_sum among 2 ranks must have an extent of operand 1 (#sched.extent<12*T>) that is 2 times that of operand 0 (#sched.extent<4*T>)}}
      sched.collective reduce_scatter_sum of f32 (write @arena[0, 4*T], read @arena[64, 12*T])
    }
  }
}

// -----

// collective_c7: a sum
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" ranks 2 {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.collective' op all_reduce_sum among 2 ranks must have an extent of operand 0 (#sched.extent<8*T>) that is 1 times that of operand 1 (#sched.extent<4*T>)}}
      sched.collective all_reduce_sum of f32 (write @arena[0, 8*T], read @arena[64, 4*T])
    }
  }
}

// -----

// collective_c7: parts
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" ranks 2 {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.collective' op all_to_all among 2 ranks must have an extent of operand 0 (#sched.extent<8>) that is 1 times that of operand 1 (#sched.extent<4>)}}
      sched.collective all_to_all (write @arena[0, 8], read @arena[64, 4])
    }
  }
}

// -----

// collective_c7: counts
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" ranks 2 {
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.collective' op operand 3 of an exchange among 2 ranks must hold 2 counts of 4 bytes, but has #sched.extent<4> bytes}}
      sched.collective exchange row_bytes 4 (write @arena[0, 8], read @arena[64, 4], write @arena[128, 8], read @arena[192, 4])
    }
  }
}

// -----

// group_begin_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.step tokens 1 to 4 {
      // expected-note @below {{which begins here}}
      sched.group_begin
      // expected-error @below {{'sched.group_begin' op must not stand inside another group}}
      sched.group_begin
      sched.group_end
    }
  }
}

// -----

// group_begin_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.group_begin' op must be closed by a group_end, but is not}}
      sched.group_begin
    }
  }
}

// -----

// group_end_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.group_end' op must close a group, but none is open}}
      sched.group_end
    }
  }
}

// -----

// record_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" streams 2 events 2 {
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.record' op event 2 must be below the variant's number of events, 2}}
      sched.record 2
    }
  }
}

// -----

// record_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" streams 2 events 2 {
    sched.step tokens 1 to 4 {
      sched.record 1
      // expected-error @below {{'sched.record' op event 1 must be recorded once, but is recorded before}}
      sched.record 1
    }
  }
}

// -----

// wait_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" streams 2 events 2 {
    sched.step tokens 1 to 4 {
      sched.record 1
      // expected-error @below {{'sched.wait' op event 0 must be recorded before, but is not}}
      sched.wait 0
      sched.record 0
    }
  }
}
