// One function per label that the routing family refuses.
// RUN: moe-opt %s --split-input-file --verify-diagnostics

func.func @route_c1(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op top-k (9) exceeds the number of experts E (8) of the logits}}
  moe.route %logits top 9 score softmax
      : tensor<?x8xf32> -> tensor<?x9xi32>, tensor<?x9xf32>
  return
}

// -----

func.func @route_c1_zero(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op attribute 'k' failed to satisfy constraint: 64-bit signless integer attribute whose value is positive}}
  moe.route %logits top 0 score softmax
      : tensor<?x8xf32> -> tensor<?x0xi32>, tensor<?x0xf32>
  return
}

// -----

func.func @route_c2(%logits: tensor<?x8xf32>, %bias: tensor<4xf32>) {
  // expected-error @below {{'moe.route' op length of bias (4) must equal the number of experts E (8)}}
  moe.route %logits bias %bias top 2 score softmax
      : tensor<?x8xf32>, tensor<4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c3(%logits: tensor<16x8xf32>) {
  // expected-error @below {{'moe.route' op weights must be [T, K] with T of logits and K = top}}
  // expected-note @below {{expected: 16x2}}
  // expected-note @below {{actual: 15x2}}
  moe.route %logits top 2 score softmax
      : tensor<16x8xf32> -> tensor<16x2xi32>, tensor<15x2xf32>
  return
}

// -----

func.func @route_c3_experts(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op experts must be [T, K] with T of logits and K = top}}
  // expected-note @below {{expected: ?x2}}
  // expected-note @below {{actual: ?x3}}
  moe.route %logits top 2 score softmax
      : tensor<?x8xf32> -> tensor<?x3xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c3_element(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op element type of weights ('f64') must equal that of logits ('f32')}}
  moe.route %logits top 2 score softmax
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf64>
  return
}

// -----

func.func @route_c4(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op groups (3) must divide the number of experts E (8)}}
  moe.route %logits top 2 score softmax groups 3 keep 1 by max
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c4_keep(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op keep_groups (5) exceeds groups (4)}}
  moe.route %logits top 2 score softmax groups 4 keep 5 by max
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c5(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op top-k (3) exceeds the experts of the kept groups (2)}}
  moe.route %logits top 3 score softmax groups 4 keep 1 by max
      : tensor<?x8xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
  return
}

// -----

func.func @route_c5_top2sum(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op group score top2sum needs at least 2 experts per group, but a group has 1}}
  moe.route %logits top 2 score softmax groups 8 keep 4 by top2sum
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c6(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op epsilon (-1.000000e+00 : f64) must be finite and not negative}}
  moe.route %logits top 2 score softmax renormalize sum epsilon -1.0
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c6_unused(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op epsilon (1.000000e+00 : f64) is given, but renormalize is softmax; only sum divides}}
  moe.route %logits top 2 score softmax renormalize softmax epsilon 1.0
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c6_scale(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op scale (0x7FF0000000000000 : f64) must be finite}}
  moe.route %logits top 2 score softmax scale 0x7FF0000000000000
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c6_inf(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op epsilon (0x7FF0000000000000 : f64) must be finite and not negative}}
  moe.route %logits top 2 score softmax renormalize sum epsilon 0x7FF0000000000000 : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c7(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op routers (3) must divide the number of experts E (8) and top-k (3)}}
  moe.route %logits top 3 score softmax routers 3 : tensor<?x8xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
  return
}

// -----

func.func @route_c7_k(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op routers (2) must divide the number of experts E (8) and top-k (3)}}
  moe.route %logits top 3 score softmax routers 2 : tensor<?x8xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
  return
}

// -----

func.func @route_c7_zero(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op attribute 'routers' failed to satisfy constraint: 64-bit signless integer attribute whose value is positive}}
  moe.route %logits top 2 score softmax routers 0 : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

// Groups divide the experts of each router, not all.
func.func @route_c4_routers(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op groups (8) must divide the number of experts E of a router (4)}}
  moe.route %logits top 2 score softmax groups 8 keep 4 by max routers 2
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @route_c5_routers(%logits: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op top-k of a router (3) exceeds the experts of the kept groups (2)}}
  moe.route %logits top 6 score softmax groups 2 keep 1 by max routers 2
      : tensor<?x8xf32> -> tensor<?x6xi32>, tensor<?x6xf32>
  return
}
