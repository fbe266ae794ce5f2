// The contract of the sched level: order between streams, work in place, nothing read before it is written.
// RUN: moe-opt %s --split-input-file --verify-diagnostics --moe-verify-sched

// schedule_c1: in place is one operand.
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.kernel @k
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 4 {
      sched.fill (write @arena[0, 64]) value 0
      sched.launch @k grid(T) (readwrite @arena[0, 16*T], write @arena[64, 64])
      // expected-error @below {{'sched.launch' op operands #sched.slice<read @arena[0, 16*T]> and #sched.slice<write @arena[63, 1]> must not overlap: in place is one readwrite operand}}
      sched.launch @k grid(T) (read @arena[0, 16*T], write @arena[63, 1])
    }
  }
}

// -----

// schedule_c2: an event orders two streams, transitively; without one they conflict.
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" streams 3 events 2 {
    sched.kernel @k
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 2 {
      sched.fill (write @arena[0, 64]) value 0
      sched.record 0
      sched.wait 0 stream 1
      sched.record 1 stream 1
      sched.wait 1 stream 2
      sched.launch @k grid(T) (read @arena[0, 64]) stream 2
      sched.launch @k grid(T) (read @arena[0, 64]) stream 1
    }
    sched.step tokens 3 to 4 {
      sched.record 0
      // expected-note @below {{that command}}
      sched.fill (write @arena[0, 64]) value 0
      sched.wait 0 stream 1
      // expected-error @below {{'sched.launch' op operand #sched.slice<read @arena[60, 8]> conflicts with #sched.slice<write @arena[0, 64]> of a command that may run at the same time: order them by a stream or an event}}
      sched.launch @k grid(T) (read @arena[60, 8]) stream 1
    }
  }
}

// -----

// schedule_c2: what grows with C reaches to the end of its buffer.
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" streams 2 {
    sched.kernel @k
    sched.buffer @state state size 4096 + 8*B*C
    sched.step tokens 1 to 4 {
      // expected-note @below {{that command}}
      sched.launch @k grid(T) (read @state[0, 8*B*C])
      // expected-error @below {{'sched.launch' op operand #sched.slice<write @state[4000, 8]> conflicts with #sched.slice<read @state[0, 8*B*C]> of a command that may run at the same time: order them by a stream or an event}}
      sched.launch @k grid(T) (write @state[4000, 8]) stream 1
    }
  }
}

// -----

// schedule_c3: a gap between two writers.
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.kernel @k
    sched.buffer @arena arena size 4096
    sched.buffer @state state size 64
    sched.step tokens 1 to 4 {
      sched.launch @k grid(T) (read @state[0, 64], write @arena[0, 16*T], write @arena[64, 64])
      sched.launch @k grid(T) (read @arena[0, 16*T])
      // expected-error @below {{'sched.launch' op #sched.slice<read @arena[0, 128]> reads byte 16, which no command before writes at T = 1 and M = 1: order the writer first, or declare scratch as write}}
      sched.launch @k grid(T) (read @arena[0, 128])
    }
  }
}

// -----

// schedule_c3: rows are not tokens; a readwrite operand reads.
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.variant "cpu" {
    sched.kernel @k
    sched.buffer @arena arena size 4096
    sched.step tokens 1 to 1 {
      sched.launch @k grid(T) (write @arena[0, 16*M])
      sched.launch @k grid(T) (readwrite @arena[0, 16*T])
    }
    sched.step tokens 2 to 4 {
      sched.launch @k grid(T) (write @arena[0, 16*M])
      // expected-error @below {{'sched.launch' op #sched.slice<readwrite @arena[0, 16*T]> reads byte 16, which no command before writes at T = 2 and M = 1: order the writer first, or declare scratch as write}}
      sched.launch @k grid(T) (readwrite @arena[0, 16*T])
    }
  }
}
