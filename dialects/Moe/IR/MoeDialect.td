//===- MoeDialect.td - The moe dialect: types, attributes, op base ---------===//
//
// What a decoder-only transformer or a mixture-of-experts model computes, with
// weights by name and nothing about any target. Letters are fixed everywhere:
// T tokens, M logit rows, B sequences, C context, H hidden, I FFN width,
// E experts, K experts per token, V vocabulary, Q query heads, G kv heads,
// D head dim, S expert slots of all ranks together, R ranks.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_DIALECT_TD
#define MOE_DIALECT_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Moe_Dialect : Dialect {
  let name = "moe";
  let cppNamespace = "::mlir::moe";
  let summary = "transformer and mixture-of-experts operations on token-major ragged batches";
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
}

class Moe_Op<string mnemonic, list<Trait> traits = []> : Op<Moe_Dialect, mnemonic, traits>;
class Moe_Attr<string name, string mnemonic_> : AttrDef<Moe_Dialect, name> { let mnemonic = mnemonic_; }
class Moe_Type<string name, string mnemonic_> : TypeDef<Moe_Dialect, name> { let mnemonic = mnemonic_; }
class Moe_Enum<string name, string summary, list<I32EnumAttrCase> cases> : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::mlir::moe";
}

/// Floating-point element types of activations: f32, bf16 and, on the reference path, f64.
def Moe_Float : AnyTypeOf<[F32, BF16, F64], "f32, bf16 or f64">;
/// Storage types of a weight as a checkpoint may hold it.
def Moe_Storage : AnyTypeOf<[F32, BF16, F16, F64], "f32, bf16, f16 or f64">;

/// Dims after the first are static: only the number of tokens is known as late as the step.
def Moe_RowsPred : CPred<"::llvm::none_of(::llvm::cast<::mlir::ShapedType>($_self).getShape().drop_front(), "
                         "::mlir::ShapedType::isDynamic)">;

class Moe_RowsOf<Type base, string summary> : ConfinedType<base, [Moe_RowsPred], summary>;
class Moe_WeightOf<Type base, string summary> : ConfinedType<base, [HasStaticShapePred], summary>;

def Moe_Tokens : 1DTensorOf<[I32]>;
def Moe_Activation2D : Moe_RowsOf<2DTensorOf<[Moe_Float]>, "[T, N] tensor of f32, bf16 or f64 with a static N">;
def Moe_Activation3D : Moe_RowsOf<3DTensorOf<[Moe_Float]>, "[T, K, H] tensor of f32, bf16 or f64 with static K and H">;
def Moe_ExpertIds : Moe_RowsOf<2DTensorOf<[I32]>, "[T, K] tensor of i32 with a static K">;
def Moe_Scores2D : Moe_RowsOf<2DTensorOf<[F32, F64]>, "[T, N] tensor of f32 or f64 with a static N">;
def Moe_Rows : Moe_RowsOf<RankedTensorOf<[Moe_Float, I32]>,
                          "tensor of f32, bf16, f64 or i32 with static dims after the first">;
def Moe_Weight : Moe_WeightOf<RankedTensorOf<[Moe_Storage]>, "static tensor of f32, bf16, f16 or f64">;
def Moe_Weight1D : Moe_WeightOf<1DTensorOf<[Moe_Storage]>, "static 1D tensor of f32, bf16, f16 or f64">;
def Moe_Weight2D : Moe_WeightOf<2DTensorOf<[Moe_Storage]>, "static 2D tensor of f32, bf16, f16 or f64">;
def Moe_Weight2DOr3D : Moe_WeightOf<RankedTensorOf<[Moe_Storage], [HasAnyRankOfPred<[2, 3]>]>, "static 2D or 3D tensor of f32, bf16, f16 or f64">;
def Moe_Weight3D : Moe_WeightOf<3DTensorOf<[Moe_Storage]>, "static 3D tensor of f32, bf16, f16 or f64">;

//===----------------------------------------------------------------------===//
// Enums
//===----------------------------------------------------------------------===//

def Moe_RopeKind : Moe_Enum<"RopeKind", "how rotary frequencies are scaled beyond the trained context", [
    I32EnumAttrCase<"Default", 0, "default">, I32EnumAttrCase<"Linear", 1, "linear">,
    I32EnumAttrCase<"Dynamic", 2, "dynamic">, I32EnumAttrCase<"Yarn", 3, "yarn">,
    I32EnumAttrCase<"Llama3", 4, "llama3">, I32EnumAttrCase<"LongRope", 5, "longrope">]>;

def Moe_Activation : Moe_Enum<"Activation", "the nonlinearity of an FFN", [
    I32EnumAttrCase<"Silu", 0, "silu">, I32EnumAttrCase<"Gelu", 1, "gelu">,
    I32EnumAttrCase<"GeluTanh", 2, "gelu_tanh">, I32EnumAttrCase<"Relu", 3, "relu">,
    I32EnumAttrCase<"OssSwiglu", 4, "oss_swiglu">]>;

def Moe_Score : Moe_Enum<"Score", "how router logits become scores", [
    I32EnumAttrCase<"Identity", 0, "identity">, I32EnumAttrCase<"Softmax", 1, "softmax">,
    I32EnumAttrCase<"Sigmoid", 2, "sigmoid">]>;

def Moe_Renormalize : Moe_Enum<"Renormalize", "what is done to the K chosen scores", [
    I32EnumAttrCase<"None", 0, "none">, I32EnumAttrCase<"Sum", 1, "sum">,
    I32EnumAttrCase<"Softmax", 2, "softmax">]>;

def Moe_GroupScore : Moe_Enum<"GroupScore", "how a group of experts is scored", [
    I32EnumAttrCase<"Max", 0, "max">, I32EnumAttrCase<"Top2Sum", 1, "top2sum">]>;

def Moe_ScaleRounding : Moe_Enum<"ScaleRounding", "when RMSNorm rounds to the result type", [
    I32EnumAttrCase<"BeforeWeight", 0, "before_weight">, I32EnumAttrCase<"AfterWeight", 1, "after_weight">]>;

//===----------------------------------------------------------------------===//
// Attributes and types
//===----------------------------------------------------------------------===//

/// An f64 parameter that is left out when it has its default.
class Moe_DefaultF64<string value>
    : DefaultValuedParameter<"::mlir::FloatAttr", "::mlir::FloatAttr::get(::mlir::Float64Type::get($_ctxt), " # value # ")">;

def Moe_RopeAttr : Moe_Attr<"Rope", "rope"> {
  let summary = "rotary position embedding: which dims turn, at which frequencies";
  let description = [{
    `dim` elements of every head, from `offset` on, are rotated in pairs: `(x[i], x[i + dim/2])`, or
    `(x[2i], x[2i+1])` when `interleaved`. Pair i turns by `f[i]` per position. With `d[i] = theta^(-2i/dim)`:

    | kind | f[i] |
    |---|---|
    | `default`, `dynamic` | `d[i]` (`dynamic` as for contexts up to `original_context`) |
    | `linear` | `d[i] / factor` |
    | `llama3` | with wavelength `w = 2 pi / d[i]`, `O = original_context`: `d[i] / factor` if `w > O / low_freq_factor`; `d[i]` if `w < O / high_freq_factor`; between, `((1 - s) / factor + s) d[i]` with `s = (O / w - low_freq_factor) / (high_freq_factor - low_freq_factor)` |
    | `yarn` | `r d[i] / factor + (1 - r) d[i]` with `r = clamp((i - lo) / (hi - lo), 0, 1)`, `lo = dim ln(O / (2 pi beta_fast)) / (2 ln theta)`, `hi` the same with `beta_slow`; `truncate` rounds lo down and hi up; then `lo = max(lo, 0)`, `hi = min(hi, dim - 1)`, and `hi += 0.001` if they are equal |
    | `longrope` | `d[i] / dim_factors[i]` |

    `attention_factor` multiplies both cos and sin; it is a resolved number here, never "derive it from the factor".
    The frequencies are computed in f64 (`computeInverseFrequencies`, MoeRope.h) and rounded to f32 once.

    Constraints:
    * (rope_attr_c1) `dim` is positive and even; `offset` is not negative.
    * (rope_attr_c2) `theta`, `factor` and `attention_factor` are positive and finite.
    * (rope_attr_c3) `llama3`, `yarn` and `dynamic` have a positive `original_context`.
    * (rope_attr_c4) `llama3` has `0 < low_freq_factor < high_freq_factor`.
    * (rope_attr_c5) `yarn` has `beta_fast >= beta_slow > 0` and `theta > 1`.
    * (rope_attr_c6) `longrope` has dim/2 positive `dim_factors`; no other kind has any.

    Example:
    ```mlir
    #moe.rope<kind = llama3, theta = 5.0e+05, dim = 128, factor = 8.0, original_context = 8192, high_freq_factor = 4.0>
    ```
  }];
  let parameters = (ins
    "RopeKind":$kind,
    "::mlir::FloatAttr":$theta,
    "int64_t":$dim,
    DefaultValuedParameter<"int64_t", "0">:$offset,
    DefaultValuedParameter<"bool", "false">:$interleaved,
    Moe_DefaultF64<"1.0">:$factor,
    DefaultValuedParameter<"int64_t", "0">:$original_context,
    Moe_DefaultF64<"32.0">:$beta_fast,
    Moe_DefaultF64<"1.0">:$beta_slow,
    DefaultValuedParameter<"bool", "true">:$truncate,
    Moe_DefaultF64<"1.0">:$attention_factor,
    Moe_DefaultF64<"1.0">:$low_freq_factor,
    Moe_DefaultF64<"4.0">:$high_freq_factor,
    OptionalParameter<"::mlir::DenseF64ArrayAttr">:$dim_factors);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def Moe_PlacementAttr : Moe_Attr<"Placement", "placement"> {
  let summary = "which expert lies in which slot of which rank";
  let description = [{
    Slot p holds a copy of expert `slots[p]` and lies on rank p / s, with s = S / R slots per rank. An expert in several
    slots has replicas; `shares[p]` says how much of the expert's work the replica in slot p should take, relative to
    the other replicas of that expert (left out: all alike). The numbers come from `moec place`.

    Constraints:
    * (placement_c1) `ranks` (R) is positive and divides the number of `slots` (S), which is positive.
    * (placement_c2) `slots` holds every expert number from 0 to the largest, and no negative one.
    * (placement_c3) No rank holds an expert twice.
    * (placement_c4) `shares`, if present, has one number per slot, from 0 to 65536; those of an expert are not all 0.

    Example:
    ```mlir
    #moe.placement<ranks = 2, slots = [0, 1, 2, 3, 0, 4], shares = [3, 1, 1, 1, 1, 1]>
    ```
  }];
  let parameters = (ins "int64_t":$ranks, "::mlir::DenseI64ArrayAttr":$slots,
                        OptionalParameter<"::mlir::DenseI64ArrayAttr">:$shares);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// S, s = S / R, and E: one more than the largest expert number.
    int64_t getNumSlots() const { return getSlots().size(); }
    int64_t getSlotsPerRank() const { return getNumSlots() / getRanks(); }
    int64_t getNumExperts() const;
    /// Every expert once, in order: R divides E.
    static PlacementAttr getLinear(::mlir::MLIRContext *context, int64_t experts, int64_t ranks);
  }];
}

def Moe_KVCacheType : Moe_Type<"KVCache", "kv_cache"> {
  let summary = "keys [B, C, G, key_dim] and values [B, C, G, value_dim] of one attention layer";
  let description = [{
    The state of one attention layer: row [b, c] holds what the token at position c of sequence slot b left behind. G
    is `heads`. B and C are not part of the type: they bind when a session is prepared. All zero at the start.

    Constraints:
    * (kv_cache_c1) `heads`, `key_dim` and `value_dim` are positive.
    * (kv_cache_c2) `element` is f32, bf16 or f64.

    Example:
    ```mlir
    !moe.kv_cache<heads = 8, key_dim = 128, value_dim = 128, element = bf16>
    ```
  }];
  let parameters = (ins "int64_t":$heads, "int64_t":$key_dim, "int64_t":$value_dim, "::mlir::Type":$element);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

#endif // MOE_DIALECT_TD
