// One program per label that initializers refuse.
// RUN: moe-opt %s --split-input-file --verify-diagnostics

// initializer_c1
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 4096 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  sched.tensor @t : tensor<16xf32> in @f[0]
  sched.tensor @r computed : tensor<16xf32>
  sched.table @w [@t]
  sched.variant "cpu" {
    // expected-error @below {{'sched.initializer' op key must be 64 lower-case hexadecimal digits, got "k"}}
    sched.initializer @r key "k" {
    }
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// initializer_c2
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 4096 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  sched.tensor @t : tensor<16xf32> in @f[0]
  sched.tensor @r computed : tensor<16xf32>
  sched.table @w [@t]
  sched.variant "cpu" {
    // expected-error @below {{'sched.initializer' op result @t must be a computed sched.tensor of the program}}
    sched.initializer @t {
    }
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// initializer_c3
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 4096 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  sched.tensor @t : tensor<16xf32> in @f[0]
  sched.tensor @r computed : tensor<16xf32>
  sched.table @w [@t]
  sched.variant "cpu" {
    sched.initializer @r {
    }
    // expected-error @below {{'sched.initializer' op result @r must have one initializer, got a second}}
    sched.initializer @r {
    }
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// initializer_c4
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.file @f size 4096 mtime_ns 0 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
  sched.tensor @t : tensor<16xf32> in @f[0]
  sched.tensor @r computed : tensor<16xf32>
  sched.table @w [@t]
  sched.variant "cpu" {
    // expected-error @below {{'sched.initializer' op must hold only commands, got 'builtin.module'}}
    sched.initializer @r {
      builtin.module {
      }
    }
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// initializer_c5
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.tensor @r computed : tensor<16xf32>
  sched.variant "cpu" {
    sched.kernel @k
    sched.initializer @r {
      // expected-error @below {{'sched.launch' op grid #sched.grid<(T)> must not depend on sizes: an initializer runs outside of steps}}
      sched.launch @k grid(T) ()
    }
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// initializer_c6
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.tensor @r computed : tensor<16xf32>
  sched.variant "cpu" {
    sched.initializer @r {
      sched.buffer @s arena size 64
      // expected-error @below {{'sched.fill' op #sched.slice<write @s[0, 4*T]> must not depend on sizes: an initializer runs outside of steps}}
      sched.fill (write @s[0, 4*T]) value 0
    }
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// initializer_c7
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.tensor @r computed : tensor<16xf32>
  sched.variant "cpu" {
    sched.initializer @r {
      // expected-error @below {{'sched.host_call' op must not stand in an initializer, which holds launches, copies and fills}}
      sched.host_call "f" ()
    }
    sched.step tokens 1 to 4 {
    }
  }
}

// -----

// initializer_c8
sched.program vocab 8 max_tokens 4 max_context 0 dtype f32 {
  sched.tensor @r computed : tensor<16xf32>
  sched.variant "cpu" {
    sched.kernel @k
    sched.initializer @r {
      // expected-error @below {{'sched.launch' op operand #sched.size<size T> must not stand in an initializer, which runs outside of steps}}
      sched.launch @k grid(1) (size T)
    }
    sched.step tokens 1 to 4 {
    }
  }
}
