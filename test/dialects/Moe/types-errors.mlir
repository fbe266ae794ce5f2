// One declaration per label that the dialect's attributes and types refuse.
// RUN: moe-opt %s --split-input-file --verify-diagnostics

// expected-error @below {{rope dim (31) must be positive and even, offset (0) not negative}}
func.func private @rope_attr_c1() attributes {rope = #moe.rope<kind = default, theta = 1.0e4, dim = 31>}

// -----

// expected-error @below {{rope dim (32) must be positive and even, offset (-1) not negative}}
func.func private @rope_attr_c1_offset() attributes {rope = #moe.rope<kind = default, theta = 1.0e4, dim = 32, offset = -1>}

// -----

// expected-error @below {{rope theta (-1.000000e+00 : f64) must be positive and finite}}
func.func private @rope_attr_c2() attributes {rope = #moe.rope<kind = default, theta = -1.0, dim = 32>}

// -----

// expected-error @below {{rope factor (0.000000e+00 : f64) must be positive and finite}}
func.func private @rope_attr_c2_factor() attributes {rope = #moe.rope<kind = linear, theta = 1.0e4, dim = 32, factor = 0.0>}

// -----

// expected-error @below {{rope attention_factor (0x7FF8000000000000 : f64) must be positive and finite}}
func.func private @rope_attr_c2_nan() attributes {rope = #moe.rope<kind = default, theta = 1.0e4, dim = 32, attention_factor = 0x7FF8000000000000 : f64>}

// -----

// expected-error @below {{rope kind llama3 needs a positive original_context, but it is 0}}
func.func private @rope_attr_c3() attributes {rope = #moe.rope<kind = llama3, theta = 1.0e4, dim = 32, factor = 8.0>}

// -----

// expected-error @below {{rope low_freq_factor (4.000000e+00 : f64) must be positive and less than high_freq_factor (1.000000e+00 : f64)}}
func.func private @rope_attr_c4() attributes {rope = #moe.rope<kind = llama3, theta = 1.0e4, dim = 32, original_context = 64, low_freq_factor = 4.0, high_freq_factor = 1.0>}

// -----

// expected-error @below {{rope beta_slow (2.000000e+00 : f64) must be positive and at most beta_fast (1.000000e+00 : f64)}}
func.func private @rope_attr_c5() attributes {rope = #moe.rope<kind = yarn, theta = 1.0e4, dim = 32, original_context = 64, beta_fast = 1.0, beta_slow = 2.0>}

// -----

// expected-error @below {{rope theta (1.000000e+00 : f64) must exceed 1 for kind yarn}}
func.func private @rope_attr_c5_theta() attributes {rope = #moe.rope<kind = yarn, theta = 1.0, dim = 32, original_context = 64>}

// -----

// expected-error @below {{rope kind longrope of dim 8 takes 4 dim_factors, but has 2}}
func.func private @rope_attr_c6() attributes {rope = #moe.rope<kind = longrope, theta = 1.0e4, dim = 8, dim_factors = [1.0, 2.0]>}

// -----

// expected-error @below {{rope kind default of dim 4 takes 0 dim_factors, but has 2}}
func.func private @rope_attr_c6_other() attributes {rope = #moe.rope<kind = default, theta = 1.0e4, dim = 4, dim_factors = [1.0, 2.0]>}

// -----

// expected-error @below {{rope dim_factors (array<f64: 1.000000e+00, 0.000000e+00>) must be positive and finite}}
func.func private @rope_attr_c6_positive() attributes {rope = #moe.rope<kind = longrope, theta = 1.0e4, dim = 4, dim_factors = [1.0, 0.0]>}

// -----

// expected-error @below {{kv_cache heads (0), key_dim (8) and value_dim (8) must be positive}}
func.func private @kv_cache_c1() attributes {type = !moe.kv_cache<heads = 0, key_dim = 8, value_dim = 8, element = f32>}

// -----

// expected-error @below {{kv_cache element ('f16') must be f32, bf16 or f64}}
func.func private @kv_cache_c2() attributes {type = !moe.kv_cache<heads = 1, key_dim = 8, value_dim = 8, element = f16>}

// -----

// expected-error @below {{kv_cache heads (2), key_dim (0) and value_dim (32) must be positive}}
moe.state @kv_cache_c1_key : !moe.kv_cache<heads = 2, key_dim = 0, value_dim = 32, element = f32>

// -----

// expected-error @below {{kv_cache heads (2), key_dim (32) and value_dim (-1) must be positive}}
moe.state @kv_cache_c1_value : !moe.kv_cache<heads = 2, key_dim = 32, value_dim = -1, element = f32>

// -----

// expected-error @below {{rope dim (0) must be positive and even, offset (0) not negative}}
func.func private @rope_attr_c1_zero() attributes {rope = #moe.rope<kind = default, theta = 1.0e+04, dim = 0>}

// -----

// expected-error @below {{rope theta (0x7FF0000000000000 : f64) must be positive and finite}}
func.func private @rope_attr_c2_inf() attributes {rope = #moe.rope<kind = default, theta = 0x7FF0000000000000 : f64, dim = 8>}

// -----

// expected-error @below {{ranks (2) must be positive and divide the number of slots (3), which must be positive}}
func.func private @placement_c1() attributes {placement = #moe.placement<ranks = 2, slots = [0, 1, 2]>}

// -----

// expected-error @below {{ranks (0) must be positive and divide the number of slots (2), which must be positive}}
func.func private @placement_c1_ranks() attributes {placement = #moe.placement<ranks = 0, slots = [0, 1]>}

// -----

// expected-error @below {{slots holds the expert number -1, but 2 slots hold every expert from 0 to the largest: at most 1}}
func.func private @placement_c2() attributes {placement = #moe.placement<ranks = 2, slots = [0, -1]>}

// -----

// expected-error @below {{no slot holds expert 1, but all from 0 to 2 must have one}}
func.func private @placement_c2_missing() attributes {placement = #moe.placement<ranks = 2, slots = [0, 2, 2, 0]>}

// -----

// expected-error @below {{rank 1 holds expert 2 twice (slot 3 again), but one copy serves a rank}}
func.func private @placement_c3() attributes {placement = #moe.placement<ranks = 2, slots = [0, 1, 2, 2]>}

// -----

// expected-error @below {{shares has 1 numbers, but there are 2 slots}}
func.func private @placement_c4() attributes {placement = #moe.placement<ranks = 2, slots = [0, 1], shares = [1]>}

// -----

// expected-error @below {{the share of slot 1 is 65537, but must be from 0 to 65536}}
func.func private @placement_c4_large() attributes {placement = #moe.placement<ranks = 2, slots = [0, 1], shares = [1, 65537]>}

// -----

// expected-error @below {{all replicas of expert 0 have the share 0, so that none takes its tokens}}
func.func private @placement_c4_zero() attributes {placement = #moe.placement<ranks = 2, slots = [0, 1, 2, 0], shares = [0, 1, 1, 0]>}
