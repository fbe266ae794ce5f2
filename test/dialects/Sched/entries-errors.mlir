// One program per label that entries refuse.
// RUN: moe-opt %s --split-input-file --verify-diagnostics

// entry_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.step tokens 1 to 4 {
    }
    // expected-error @below {{'sched.entry' op must not be named step: those steps stand in the variant itself}}
    sched.entry @step inputs [] outputs [] {
    }
  }
}

// -----

// entry_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @x arena size 4*T
    sched.step tokens 1 to 4 {
    }
    // expected-error @below {{'sched.entry' op argument @x must be an input buffer of the variant}}
    sched.entry @e inputs [@x] outputs [] {
    }
  }
}

// -----

// entry_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.step tokens 1 to 4 {
    }
    // expected-error @below {{'sched.entry' op argument @y must be an output buffer of the variant}}
    sched.entry @e inputs [] outputs [@y] {
    }
  }
}

// -----

// entry_c3
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    // expected-error @below {{'sched.buffer' op size of an entry's argument must be a number of bytes per token or per row, got #sched.extent<4*T + 4*M>}}
    sched.buffer @x input size 4*T + 4*M
    sched.step tokens 1 to 4 {
    }
    sched.entry @e inputs [@x] outputs [] {
    }
  }
}

// -----

// entry_c4
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @x input size 4*T
    sched.step tokens 1 to 4 {
    }
    sched.entry @e inputs [@x] outputs [] {
      sched.step tokens 1 to 4 {
      }
    }
    // expected-error @below {{'sched.entry' op argument @x must belong to one entry once, but is one of @e}}
    sched.entry @f inputs [@x] outputs [] {
    }
  }
}

// -----

// entry_c5
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.step tokens 1 to 4 {
    }
    // expected-error @below {{'sched.entry' op must hold only steps, got 'builtin.module'}}
    sched.entry @e inputs [] outputs [] {
      builtin.module {
      }
    }
  }
}

// -----

// entry_c6
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.step tokens 1 to 4 {
    }
    // expected-error @below {{'sched.entry' op steps must cover 1 to 4 tokens (max_tokens), but cover 1 to 3}}
    sched.entry @e inputs [] outputs [] {
      sched.step tokens 1 to 3 {
      }
    }
  }
}

// -----

// entry_c7
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @a arena size 16
    sched.buffer @x input size 4*T
    sched.step tokens 1 to 4 {
      // expected-error @below {{'sched.copy' op #sched.slice<read @x[0, 4*T]> is an argument of entry @e, which only its own steps may touch}}
      sched.copy (write @a[0, 4*T], read @x[0, 4*T])
    }
    sched.entry @e inputs [@x] outputs [] {
      sched.step tokens 1 to 4 {
      }
    }
  }
}

// -----

// entry_c7
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @logits output size 32*M
    sched.step tokens 1 to 4 {
    }
    sched.entry @e inputs [] outputs [] {
      sched.step tokens 1 to 4 {
        // expected-error @below {{'sched.fill' op #sched.slice<write @logits[0, 32*M]> must be an output of entry @e}}
        sched.fill (write @logits[0, 32*M]) value 0
      }
    }
  }
}

// -----

// slice_c3: the caller's memory is as large as the step asks, also for no row
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.buffer @y output size 4*M
    sched.step tokens 1 to 4 {
    }
    sched.entry @e inputs [] outputs [@y] {
      sched.step tokens 1 to 4 {
        // expected-error @below {{'sched.fill' op #sched.slice<write @y[0, 4*T]> must end inside its buffer: at T = 1 and M = 0 it ends at byte 4 of 0}}
        sched.fill (write @y[0, 4*T]) value 0
      }
    }
  }
}
