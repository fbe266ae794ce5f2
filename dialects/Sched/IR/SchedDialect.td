//===- SchedDialect.td - The sched dialect: enums and attributes ------------===//
//
// The static schedule of a step: buffers, kernels and a table of commands, one
// to one with runtime/format/program.fbs. Nothing here knows a model: what a
// command does is in its kernel. Operands are attributes, not SSA values: order
// is the order of the table, plus record and wait between streams.
//
// Letters: T tokens of the step, M logit rows, B sequence slots, C context.
//
//===----------------------------------------------------------------------===//

#ifndef SCHED_DIALECT_TD
#define SCHED_DIALECT_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"

def Sched_Dialect : Dialect {
  let name = "sched";
  let cppNamespace = "::mlir::sched";
  let summary = "the static command table of a step, one-to-one with the program file";
  let useDefaultAttributePrinterParser = 1;
}

class Sched_Enum<string name, string summary, list<I32EnumAttrCase> cases> : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::mlir::sched";
}
class Sched_Attr<string name, string mnemonic_, string summary_> : AttrDef<Sched_Dialect, name> {
  let mnemonic = mnemonic_;
  let summary = summary_;
  let hasCustomAssemblyFormat = 1;
}

//===----------------------------------------------------------------------===//
// Enums (the values are those of the program file)
//===----------------------------------------------------------------------===//

def Sched_BufferKind : Sched_Enum<"BufferKind", "what a buffer is for", [
    I32EnumAttrCase<"Arena", 0, "arena">, I32EnumAttrCase<"State", 1, "state">,
    I32EnumAttrCase<"Input", 2, "input">, I32EnumAttrCase<"Output", 3, "output">]>;

def Sched_Access : Sched_Enum<"Access", "what a command does to bytes", [
    I32EnumAttrCase<"Read", 1, "read">, I32EnumAttrCase<"Write", 2, "write">,
    I32EnumAttrCase<"ReadWrite", 3, "readwrite">]>;

def Sched_Dim : Sched_Enum<"Dim", "a size that is known when a session or a step starts", [
    I32EnumAttrCase<"T", 0, "T">, I32EnumAttrCase<"M", 1, "M">, I32EnumAttrCase<"B", 2, "B">,
    I32EnumAttrCase<"C", 3, "C">, I32EnumAttrCase<"Tmax", 4, "Tmax">, I32EnumAttrCase<"Ranks", 5, "ranks">,
    I32EnumAttrCase<"Rank", 6, "rank">]>;

def Sched_CollectiveKind : Sched_Enum<"CollectiveKind", "what ranks do together", [
    I32EnumAttrCase<"AllReduceSum", 0, "all_reduce_sum">, I32EnumAttrCase<"AllGather", 1, "all_gather">,
    I32EnumAttrCase<"ReduceScatterSum", 2, "reduce_scatter_sum">, I32EnumAttrCase<"AllToAll", 3, "all_to_all">,
    I32EnumAttrCase<"Exchange", 4, "exchange">]>;

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

def Sched_ExtentAttr : Sched_Attr<"Extent", "extent", "a count that is affine in the sizes of a step"> {
  let description = [{
    `fixed + per_token*T + per_row*M + per_sequence*B + per_cache_row*B*C`, written as that sum: `4096 + 256*T`.
    Buffers are measured at Tmax (with M = Tmax), slices at the step's own T and M <= T.
  }];
  let parameters = (ins "int64_t":$fixed, "int64_t":$perToken, "int64_t":$perRow, "int64_t":$perSequence,
                        "int64_t":$perCacheRow);
  let builders = [AttrBuilder<(ins "int64_t":$fixed, CArg<"int64_t", "0">:$perToken, CArg<"int64_t", "0">:$perRow,
                                   CArg<"int64_t", "0">:$perSequence, CArg<"int64_t", "0">:$perCacheRow), [{
    return $_get($_ctxt, fixed, perToken, perRow, perSequence, perCacheRow);
  }]>];
  let skipDefaultBuilders = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// `coefficient` bytes (or units) per token, and nothing else.
    static ExtentAttr perTokens(::mlir::MLIRContext *context, int64_t coefficient) { return get(context, 0, coefficient); }
    /// `coefficient` bytes (or units) per logit row, and nothing else.
    static ExtentAttr perRows(::mlir::MLIRContext *context, int64_t coefficient) { return get(context, 0, 0, coefficient); }
    /// True when the count does not depend on any size.
    bool isConstant() const { return !getPerToken() && !getPerRow() && !getPerSequence() && !getPerCacheRow(); }
    /// The count at given sizes, each below 2^30; 128 bits, because it may pass 2^63.
    __int128 evaluate(int64_t tokens, int64_t rows, int64_t sequences, int64_t context) const;
  }];
}

def Sched_GridAttr : Sched_Attr<"Grid", "grid", "the number of workgroups of a launch"> {
  let description = [{
    `factor * min(cap, ceildiv(units, divisor))`; a cap of 0 is no cap. Written `units ceildiv D cap N times F`, where
    each part but the units may be left out: `T ceildiv 4 times 3`.
  }];
  let parameters = (ins "ExtentAttr":$units, "int64_t":$divisor, "int64_t":$cap, "int64_t":$factor);
  let builders = [AttrBuilderWithInferredContext<(ins "ExtentAttr":$units, CArg<"int64_t", "1">:$divisor,
                                                      CArg<"int64_t", "0">:$cap, CArg<"int64_t", "1">:$factor), [{
    return $_get(units.getContext(), units, divisor, cap, factor);
  }]>];
  let skipDefaultBuilders = 1;
  let genVerifyDecl = 1;
}

def Sched_SliceAttr : Sched_Attr<"Slice", "slice", "operand: bytes of a buffer"> {
  let description = [{ `read @arena[4096, 256*T]`: `extent` bytes of a buffer from a constant offset on. }];
  let parameters = (ins "Access":$access, "::mlir::FlatSymbolRefAttr":$buffer, "int64_t":$offset, "ExtentAttr":$extent);
  let builders = [AttrBuilderWithInferredContext<(ins "Access":$access, "::mlir::FlatSymbolRefAttr":$buffer,
                                                      "int64_t":$offset, "ExtentAttr":$extent), [{
    return $_get(extent.getContext(), access, buffer, offset, extent);
  }]>, AttrBuilderWithInferredContext<(ins "Access":$access, "::llvm::StringRef":$buffer, "int64_t":$offset,
                                           "ExtentAttr":$extent), [{
    auto symbol = ::mlir::FlatSymbolRefAttr::get(extent.getContext(), buffer);
    return $_get(extent.getContext(), access, symbol, offset, extent);
  }]>];
  let skipDefaultBuilders = 1;
  let genVerifyDecl = 1;
}

def Sched_WeightAttr : Sched_Attr<"Weight", "weight", "operand: bytes of a tensor"> {
  let description = [{
    `weight @t[0]`: a tensor from a byte offset on, to its end or for as many bytes as a second number says. With
    `per_rank 4096`, rank r begins r * 4096 bytes behind the offset: every rank reads its own rows, where they lie.
    The commands of an initializer write their result as `write weight @t[0, 4096]`.
  }];
  let parameters = (ins "Access":$access, "::mlir::FlatSymbolRefAttr":$tensor, "int64_t":$offset,
                        OptionalParameter<"ExtentAttr">:$extent, "int64_t":$perRank);
  let builders = [AttrBuilderWithInferredContext<(ins "::mlir::FlatSymbolRefAttr":$tensor,
                                                      CArg<"int64_t", "0">:$offset, CArg<"ExtentAttr", "{}">:$extent,
                                                      CArg<"Access", "Access::Read">:$access,
                                                      CArg<"int64_t", "0">:$perRank), [{
    return $_get(tensor.getContext(), access, tensor, offset, extent, perRank);
  }]>];
  let skipDefaultBuilders = 1;
  let genVerifyDecl = 1;
}

def Sched_TableRefAttr : Sched_Attr<"TableRef", "table", "operand: an array of pointers to tensors"> {
  let description = [{
    `table @x`. With `per_rank 5`, rank r begins at entry r * 5: the table holds the entries of all ranks.
  }];
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$table, "int64_t":$perRank);
  let builders = [AttrBuilderWithInferredContext<(ins "::mlir::FlatSymbolRefAttr":$table,
                                                      CArg<"int64_t", "0">:$perRank), [{
    return $_get(table.getContext(), table, perRank);
  }]>];
  let skipDefaultBuilders = 1;
  let genVerifyDecl = 1;
}

def Sched_TensorMapAttr : Sched_Attr<"TensorMap", "tensor_map", "operand: tensor maps of a weight (GPU only)"> {
  let description = [{
    `tensor_map weight @w[0] rows 512 columns 256 box 128`: a pointer to the map by which TMA reads boxes of 128 rows and
    128 bytes, swizzled by 128 bytes, of a matrix in the tensor, zeros beyond it. `tensor_map table @t rows ...`: an array
    of maps, one per entry.
  }];
  let parameters = (ins "::mlir::Attribute":$source, "int64_t":$rows, "int64_t":$columns, "int64_t":$boxRows);
  let builders = [AttrBuilderWithInferredContext<(ins "::mlir::Attribute":$source, "int64_t":$rows,
                                                      "int64_t":$columns, "int64_t":$boxRows), [{
    return $_get(source.getContext(), source, rows, columns, boxRows);
  }]>];
  let skipDefaultBuilders = 1;
  let genVerifyDecl = 1;
}

def Sched_SizeAttr : Sched_Attr<"Size", "size", "operand: a size of the session or the step, as an integer"> {
  let parameters = (ins "Dim":$dim);
}

def Sched_ScalarAttr : Sched_Attr<"Scalar", "constant", "operand: 64 constant bits"> {
  let description = [{ `constant 42`: an integer, or the bits of a float (f32 in the low half). }];
  let parameters = (ins "int64_t":$value);
  let builders = [AttrBuilder<(ins "int64_t":$value), [{ return $_get($_ctxt, value); }]>,
                  AttrBuilder<(ins "float":$value), [{ return $_get($_ctxt, ::llvm::bit_cast<uint32_t>(value)); }]>];
  let skipDefaultBuilders = 1;
}

#endif // SCHED_DIALECT_TD
