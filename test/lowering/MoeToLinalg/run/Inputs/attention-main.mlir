func.func private @printMemrefF32(tensor<*xf32> {bufferization.access = "read"})

func.func @print(%y: tensor<?x1xf32>) {
  %u = tensor.cast %y : tensor<?x1xf32> to tensor<*xf32>
  call @printMemrefF32(%u) : (tensor<*xf32>) -> ()
  return
}

func.func @main() {
  %hundred = arith.constant 100.0 : f32
  %zero4 = arith.constant dense<0.0> : tensor<4x1xf32>
  %v4 = arith.constant dense<[[3.0], [6.0], [9.0], [7.0]]> : tensor<4x1xf32>
  %s4 = arith.constant dense<[0, 0, 0, 1]> : tensor<4xi32>
  %p4 = arith.constant dense<[0, 1, 2, 0]> : tensor<4xi32>
  %q = tensor.cast %zero4 : tensor<4x1xf32> to tensor<?x1xf32>
  %v = tensor.cast %v4 : tensor<4x1xf32> to tensor<?x1xf32>
  %seq = tensor.cast %s4 : tensor<4xi32> to tensor<?xi32>
  %pos = tensor.cast %p4 : tensor<4xi32> to tensor<?xi32>
  %cache0 = tensor.splat %hundred : tensor<2x4x1x1xf32>
  %cache = tensor.cast %cache0 : tensor<2x4x1x1xf32> to tensor<?x?x1x1xf32>

  %full:3 = call @full(%q, %q, %v, %seq, %pos, %cache, %cache) : (tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?x?x1x1xf32>, tensor<?x?x1x1xf32>) -> (tensor<?x1xf32>, tensor<?x?x1x1xf32>, tensor<?x?x1x1xf32>)
  call @print(%full#0) : (tensor<?x1xf32>) -> ()
  %values = tensor.cast %full#2 : tensor<?x?x1x1xf32> to tensor<*xf32>
  call @printMemrefF32(%values) : (tensor<*xf32>) -> ()

  %window:3 = call @window(%q, %q, %v, %seq, %pos, %cache, %cache) : (tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?x?x1x1xf32>, tensor<?x?x1x1xf32>) -> (tensor<?x1xf32>, tensor<?x?x1x1xf32>, tensor<?x?x1x1xf32>)
  call @print(%window#0) : (tensor<?x1xf32>) -> ()
  %sinks:3 = call @sinks(%q, %q, %v, %seq, %pos, %cache, %cache) : (tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?x?x1x1xf32>, tensor<?x?x1x1xf32>) -> (tensor<?x1xf32>, tensor<?x?x1x1xf32>, tensor<?x?x1x1xf32>)
  call @print(%sinks#0) : (tensor<?x1xf32>) -> ()

  %zero1 = arith.constant dense<0.0> : tensor<1x1xf32>
  %one1 = arith.constant dense<1.0> : tensor<1x1xf32>
  %half1 = arith.constant dense<0.54930614433405484> : tensor<1x1xf32>
  %v1 = arith.constant dense<12.0> : tensor<1x1xf32>
  %s1 = arith.constant dense<0> : tensor<1xi32>
  %p1 = arith.constant dense<3> : tensor<1xi32>
  %z = tensor.cast %zero1 : tensor<1x1xf32> to tensor<?x1xf32>
  %one = tensor.cast %one1 : tensor<1x1xf32> to tensor<?x1xf32>
  %half = tensor.cast %half1 : tensor<1x1xf32> to tensor<?x1xf32>
  %w = tensor.cast %v1 : tensor<1x1xf32> to tensor<?x1xf32>
  %s = tensor.cast %s1 : tensor<1xi32> to tensor<?xi32>
  %p = tensor.cast %p1 : tensor<1xi32> to tensor<?xi32>
  %next:3 = call @full(%z, %z, %w, %s, %p, %full#1, %full#2) : (tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?x?x1x1xf32>, tensor<?x?x1x1xf32>) -> (tensor<?x1xf32>, tensor<?x?x1x1xf32>, tensor<?x?x1x1xf32>)
  call @print(%next#0) : (tensor<?x1xf32>) -> ()
  %weighted:3 = call @full(%one, %half, %w, %s, %p, %full#1, %full#2) : (tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?x?x1x1xf32>, tensor<?x?x1x1xf32>) -> (tensor<?x1xf32>, tensor<?x?x1x1xf32>, tensor<?x?x1x1xf32>)
  call @print(%weighted#0) : (tensor<?x1xf32>) -> ()

  %none0 = arith.constant dense<> : tensor<0x1xf32>
  %ids0 = arith.constant dense<> : tensor<0xi32>
  %none = tensor.cast %none0 : tensor<0x1xf32> to tensor<?x1xf32>
  %ids = tensor.cast %ids0 : tensor<0xi32> to tensor<?xi32>
  %nothing:3 = call @full(%none, %none, %none, %ids, %ids, %cache, %cache) : (tensor<?x1xf32>, tensor<?x1xf32>, tensor<?x1xf32>, tensor<?xi32>, tensor<?xi32>, tensor<?x?x1x1xf32>, tensor<?x?x1x1xf32>) -> (tensor<?x1xf32>, tensor<?x?x1x1xf32>, tensor<?x?x1x1xf32>)
  call @print(%nothing#0) : (tensor<?x1xf32>) -> ()
  return
}
