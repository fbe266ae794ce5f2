//===- MoeOps.td - Every family of the moe dialect --------------------------===//

#ifndef MOE_OPS_TD
#define MOE_OPS_TD

include "dialects/Moe/IR/MoeWeightOps.td"
include "dialects/Moe/IR/MoeNormOps.td"
include "dialects/Moe/IR/MoeLinearOps.td"
include "dialects/Moe/IR/MoeAttentionOps.td"
include "dialects/Moe/IR/MoeFFNOps.td"
include "dialects/Moe/IR/MoeRoutingOps.td"
include "dialects/Moe/IR/MoeExpertOps.td"
include "dialects/Moe/IR/MoeCollectiveOps.td"

#endif // MOE_OPS_TD
