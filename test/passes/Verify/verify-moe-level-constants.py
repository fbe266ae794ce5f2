"""Prints a module with a constant of the given number of bytes (a multiple of 4), as a resource."""

import sys

BYTES = int(sys.argv[1])
print(f"""
module @moe_level_c4 {{
  func.func private @f() -> tensor<{BYTES // 4}xf32> {{
    %c = arith.constant dense_resource<blob> : tensor<{BYTES // 4}xf32>
    return %c : tensor<{BYTES // 4}xf32>
  }}
  func.func @step(%tokens: tensor<?xi32>, %seq: tensor<?xi32>, %pos: tensor<?xi32>, %runs: tensor<?xi32>,
                  %rows: tensor<?xi32>) -> tensor<?x8xf32> {{
    %w = moe.get_weight @w : tensor<8x8xf32>
    %h = moe.embedding %rows, %w : tensor<?xi32>, tensor<8x8xf32> -> tensor<?x8xf32>
    return %h : tensor<?x8xf32>
  }}
  moe.weight @w : tensor<8x8xf32>
}}
{{-# dialect_resources: {{builtin: {{blob: "0x04000000{'00' * BYTES}"}}}} #-}}""")
