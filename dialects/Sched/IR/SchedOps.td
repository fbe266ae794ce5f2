//===- SchedOps.td - Programs, variants, declarations and commands ----------===//
//
// Three levels: a program holds what all machine kinds share (files, tensors,
// tables); a variant holds kernels, buffers, initializers and steps for one
// machine kind; a step or an initializer holds commands. Declarations keep the
// order of the program file, so that an index there is a position here.
//
//===----------------------------------------------------------------------===//

#ifndef SCHED_OPS_TD
#define SCHED_OPS_TD

include "dialects/Sched/IR/SchedDialect.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/IR/RegionKindInterface.td"
include "mlir/IR/SymbolInterfaces.td"

class Sched_Op<string mnemonic, list<Trait> traits = []> : Op<Sched_Dialect, mnemonic, traits>;
class Sched_Scope<string mnemonic, list<Trait> traits = []>
    : Sched_Op<mnemonic, !listconcat(traits, [NoTerminator, NoRegionArguments, SingleBlock])>;

def Sched_Count : ConfinedAttr<I64Attr, [IntNonNegative]>;
def Sched_Positive : ConfinedAttr<I64Attr, [IntPositive]>;
def Sched_DType : TypeAttrOf<AnyTypeOf<[F32, BF16], "f32 or bf16">>;

//===----------------------------------------------------------------------===//
// Program: what all variants share
//===----------------------------------------------------------------------===//

def Sched_ProgramOp : Sched_Scope<"program", [SymbolTable, IsolatedFromAbove]> {
  let summary = "a program file";
  let description = [{
    Facts of the model, the tensors of the checkpoint that it needs, and one variant per machine kind. `model` is JSON
    for tools; `checkpoint` is where the weights were at compile time; `metadata` maps names to strings.

    Example:
    ```mlir
    sched.program vocab 8192 max_tokens 512 max_context 4096 dtype bf16 {
    }
    ```
  }];
  let arguments = (ins Sched_Positive:$vocab, Sched_Positive:$max_tokens, Sched_Count:$max_context,
                       Sched_DType:$dtype, OptionalAttr<StrAttr>:$compiler, OptionalAttr<StrAttr>:$model,
                       OptionalAttr<StrAttr>:$checkpoint, OptionalAttr<DictionaryAttr>:$metadata);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `vocab` $vocab `max_tokens` $max_tokens `max_context` $max_context `dtype` $dtype
    (`compiler` $compiler^)? (`model` $model^)? (`checkpoint` $checkpoint^)? (`metadata` $metadata^)? $body attr-dict
  }];
  let builders = [OpBuilder<(ins "int64_t":$vocab, "int64_t":$maxTokens, "int64_t":$maxContext, "::mlir::Type":$dtype)>];
  let skipDefaultBuilders = 1;
  let hasRegionVerifier = 1;
}

def Sched_FileOp : Sched_Op<"file", [Symbol, HasParent<"ProgramOp">]> {
  let summary = "a checkpoint file and its identity";
  let description = [{
    A file is recognised by its size, its modification time and the SHA-256 of its header, the first `header_bytes`
    bytes (when absent: those of a safetensors header); `sha256` is that of the whole file, for those who ask for it. A
    file `in_package` lies in the package, not in the checkpoint, and is recognised by its digests alone: a copy has
    another time.

    Example:
    ```mlir
    sched.file @model.safetensors size 9437184 mtime_ns 1700000000000000000 header "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, Sched_Count:$size, I64Attr:$mtime_ns, StrAttr:$header_sha256,
                       OptionalAttr<StrAttr>:$sha256, UnitAttr:$in_package,
                       OptionalAttr<Sched_Positive>:$header_bytes);
  let assemblyFormat = [{
    $sym_name `size` $size `mtime_ns` $mtime_ns `header` $header_sha256 (`header_bytes` $header_bytes^)?
    (`sha256` $sha256^)? (`in_package` $in_package^)? attr-dict
  }];
  let hasVerifier = 1;
}

def Sched_TensorOp : Sched_Op<"tensor", [Symbol, HasParent<"ProgramOp">]> {
  let summary = "a tensor of the checkpoint, or the result of an initializer";
  let description = [{
    The symbol is the tensor's name in the checkpoint. `in @file[offset]` says where its bytes lie; the writer of the
    package fills that in. A `computed` tensor is the result of an initializer.

    Example:
    ```mlir
    sched.tensor @model.norm.weight : tensor<128xbf16> in @model.safetensors[4096]
    sched.tensor @layers.0.qkv computed : tensor<256x128xbf16>
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<AnyRankedTensor>:$type, UnitAttr:$computed,
                       OptionalAttr<FlatSymbolRefAttr>:$file, OptionalAttr<Sched_Count>:$offset);
  let assemblyFormat = [{
    $sym_name (`computed` $computed^)? `:` $type (`in` $file^ `[` $offset `]`)? attr-dict
  }];
  let builders = [OpBuilder<(ins "::llvm::StringRef":$name, "::mlir::RankedTensorType":$type,
                                 CArg<"bool", "false">:$computed)>];
  let extraClassDeclaration = [{
    ::mlir::RankedTensorType getTensorType() { return ::llvm::cast<::mlir::RankedTensorType>(getType()); }
    /// Size in bytes; sub-byte elements are packed.
    int64_t getByteSize();
  }];
  let hasVerifier = 1;
}

def Sched_TableOp : Sched_Op<"table", [Symbol, HasParent<"ProgramOp">]> {
  let summary = "an array of pointers to tensors, one per expert";
  let description = [{
    The runtime builds the array when weights are mapped. A tensor that holds all experts has one entry per expert,
    each at its byte offset.

    Example:
    ```mlir
    sched.table @layers.0.w1 [@layers.0.experts.0.w1, @layers.0.experts.1.w1]
    sched.table @layers.1.w1 [@layers.1.experts.w1, @layers.1.experts.w1[32768]]
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypedArrayAttrBase<Sched_WeightAttr, "entries">:$entries);
  let assemblyFormat = "$sym_name custom<Entries>($entries) attr-dict";
  let builders = [OpBuilder<(ins "::llvm::StringRef":$name, "::llvm::ArrayRef<::llvm::StringRef>":$tensors)>];
  let hasVerifier = 1;
}

def Sched_PackageFileOp : Sched_Op<"package_file", [HasParent<"ProgramOp">]> {
  let summary = "another file of the package, checked when the program is loaded";
  let description = [{
    Example:
    ```mlir
    sched.package_file "tokenizer.json" size 1234 sha256 "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    ```
  }];
  let arguments = (ins StrAttr:$name, Sched_Count:$size, StrAttr:$sha256);
  let assemblyFormat = "$name `size` $size `sha256` $sha256 attr-dict";
  let hasVerifier = 1;
}

def Sched_VariantOp : Sched_Scope<"variant", [SymbolTable, HasParent<"ProgramOp">]> {
  let summary = "all that is specific to one machine kind";
  let description = [{
    Runs where the CPU has all `features`. `blob` names the shared object with the kernels, `sha256` its hash (the
    writer of the package fills both in). Steps cover every T from 1 to the program's `max_tokens` once. Entries
    are further tables on the same weights and states. A table is made for a number of `ranks`, which all run it at the
    same time; `distributed` says that every rank has its own tokens, states and logits (else all have the same). Best
    variant first: a loader takes the first that runs.

    Example:
    ```mlir
    sched.variant "avx512bf16" features ["avx512f", "avx512bf16"] {
      sched.step tokens 1 to 512 {
      }
    }
    ```
  }];
  let arguments = (ins StrAttr:$target, DefaultValuedAttr<StrArrayAttr, "{}">:$features, OptionalAttr<StrAttr>:$blob,
                       OptionalAttr<StrAttr>:$sha256,
                       DefaultValuedAttr<ConfinedAttr<I64Attr, [IntMinValue<1>, IntMaxValue<255>]>, "1">:$streams,
                       DefaultValuedAttr<ConfinedAttr<I64Attr, [IntNonNegative, IntMaxValue<1048576>]>, "0">:$events,
                       DefaultValuedAttr<ConfinedAttr<I64Attr, [IntMinValue<1>, IntMaxValue<65535>]>, "1">:$ranks,
                       UnitAttr:$distributed);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $target (`features` $features^)? (`blob` $blob^ `sha256` $sha256)? (`streams` $streams^)? (`events` $events^)?
    (`ranks` $ranks^)? (`distributed` $distributed^)? $body attr-dict
  }];
  let builders = [OpBuilder<(ins "::llvm::StringRef":$target, "::llvm::ArrayRef<::llvm::StringRef>":$features,
                                 CArg<"int64_t", "1">:$streams, CArg<"int64_t", "0">:$events)>];
  let skipDefaultBuilders = 1;
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Variant: kernels, buffers, initializers, steps
//===----------------------------------------------------------------------===//

def Sched_KernelOp : Sched_Op<"kernel", [Symbol, HasParent<"VariantOp">]> {
  let summary = "a kernel of the variant's blob, by its exported name";
  let description = [{
    A workgroup of a GPU has `threads` threads and, beside what its code declares, `shared` bytes of shared memory. One
    that `waits` waits by itself until the kernels launched before it are done (`griddepcontrol.wait`), so that it may
    start while they still run. Kernels of CPUs have none of these.

    Example:
    ```mlir
    sched.kernel @gemv_bf16_f32 "linear, one token: bf16 weights, f32 result"
    sched.kernel @rms_norm_f32_bf16_f32 threads 256 waits
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, OptionalAttr<StrAttr>:$description,
                       OptionalAttr<Sched_Positive>:$threads, OptionalAttr<Sched_Positive>:$shared_bytes,
                       UnitAttr:$waits);
  let assemblyFormat = [{
    $sym_name ($description^)? (`threads` $threads^)? (`shared` $shared_bytes^)? (`waits` $waits^)? attr-dict
  }];
  let builders = [OpBuilder<(ins "::llvm::StringRef":$name, CArg<"::llvm::StringRef", "{}">:$description,
                                 CArg<"int64_t", "0">:$threads, CArg<"int64_t", "0">:$sharedBytes,
                                 CArg<"bool", "false">:$waits)>];
  let skipDefaultBuilders = 1;
}

def Sched_BufferOp : Sched_Op<"buffer", [Symbol, ParentOneOf<["VariantOp", "InitializerOp"]>]> {
  let summary = "memory of a session";
  let description = [{
    `arena`: scratch of one step, whose slices were planned at Tmax. `state`: outlives the step, zero at the start.
    `input`: what the caller asks, @tokens, @seq and @pos (i32 [T]), @runs (i32 [B+1]), @rows (i32 [M]), or an argument
    of an entry. `output`: @logits, f32 [M, V], or a result of an entry. Arguments and results of entries are the
    caller's memory. `size` is in bytes and taken at Tmax, that of the caller's memory at the step's T and M.

    Example:
    ```mlir
    sched.buffer @arena arena size 4096 align 64
    sched.buffer @kv.0.keys state size 128*B*C align 64
    sched.buffer @logits output size 32768*M align 64
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, Sched_BufferKind:$kind, Sched_ExtentAttr:$size,
                       DefaultValuedAttr<Sched_Positive, "64">:$alignment);
  let assemblyFormat = "$sym_name $kind `size` custom<Extent>($size) (`align` $alignment^)? attr-dict";
  let hasVerifier = 1;
}

def Sched_ConstantOp : Sched_Op<"constant", [Symbol, HasParent<"VariantOp">]> {
  let summary = "read-only bytes of the program file, as a buffer";
  let description = [{
    The bytes are written as hexadecimal digits. Equal constants are stored once in the program file.

    Example:
    ```mlir
    sched.constant @rope.frequencies "0000803fcdcccc3d"
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrAttr:$bytes, DefaultValuedAttr<Sched_Positive, "64">:$alignment);
  let assemblyFormat = "$sym_name custom<HexBytes>($bytes) (`align` $alignment^)? attr-dict";
  let builders = [OpBuilder<(ins "::llvm::StringRef":$name, "::llvm::ArrayRef<char>":$bytes,
                                 CArg<"int64_t", "64">:$alignment)>];
  let skipDefaultBuilders = 1;
  let hasVerifier = 1;
}

def Sched_InitializerOp : Sched_Scope<"initializer", [SymbolTable, HasParent<"VariantOp">]> {
  let summary = "commands that compute one tensor, once";
  let description = [{
    Runs before the first step; the result is kept in the package's cache under `key`, the SHA-256 of the commands and
    of the identity of every tensor that they read (the writer of the package fills it in). Slices refer to buffers
    of the initializer itself, its scratch.

    Example:
    ```mlir
    sched.initializer @layers.0.qkv {
      sched.copy (write weight @layers.0.qkv[0, 32768], weight @layers.0.q_proj.weight[0, 32768])
    }
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$result, OptionalAttr<StrAttr>:$key);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$result (`key` $key^)? $body attr-dict";
  let builders = [OpBuilder<(ins "::llvm::StringRef":$result)>];
  let skipDefaultBuilders = 1;
  let hasVerifier = 1;
}

def Sched_EntryOp : Sched_Scope<"entry", [Symbol, HasParent<"VariantOp">]> {
  let summary = "a named piece of the model, with tensors of its own as arguments";
  let description = [{
    Steps that stand in the variant itself are those of the entry `step`, from tokens to logits. Every further entry
    names the input buffers that it reads beside tokens, seq, pos, runs and rows, and the output buffers that it writes:
    the caller's memory, given in this order. Entries of one variant share weights, states and kernels; the steps of
    each cover every T.

    Example:
    ```mlir
    sched.entry @ffn.0 inputs [@ffn.0.in0] outputs [@ffn.0.out0] {
      sched.step tokens 1 to 512 {
      }
    }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, FlatSymbolRefArrayAttr:$inputs, FlatSymbolRefArrayAttr:$outputs);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name `inputs` $inputs `outputs` $outputs $body attr-dict";
  let builders = [OpBuilder<(ins "::llvm::StringRef":$name, "::llvm::ArrayRef<::llvm::StringRef>":$inputs,
                                 "::llvm::ArrayRef<::llvm::StringRef>":$outputs)>];
  let skipDefaultBuilders = 1;
}

def Sched_StepOp : Sched_Scope<"step", [ParentOneOf<["VariantOp", "EntryOp"]>]> {
  let summary = "the command table for a range of T";
  let description = [{
    Example:
    ```mlir
    sched.step tokens 1 to 8 {
      sched.fill (write @arena[0, 4*T]) value 0
    }
    ```
  }];
  let arguments = (ins Sched_Positive:$min_tokens, Sched_Positive:$max_tokens);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "`tokens` $min_tokens `to` $max_tokens $body attr-dict";
  let builders = [OpBuilder<(ins "int64_t":$minTokens, "int64_t":$maxTokens)>];
  let skipDefaultBuilders = 1;
}

//===----------------------------------------------------------------------===//
// Commands
//===----------------------------------------------------------------------===//

def Sched_CommandInterface : OpInterface<"CommandOpInterface"> {
  let cppNamespace = "::mlir::sched";
  let description = [{ What every command has: operands, a stream, and a label for people and traces. }];
  let methods = [
    InterfaceMethod<"operands, in order", "::llvm::ArrayRef<::mlir::Attribute>", "getOperandAttrs">,
    InterfaceMethod<"the stream that it runs on", "uint64_t", "getStream">,
    InterfaceMethod<"a label, or nothing", "::llvm::StringRef", "getLabel">];
}

def Sched_Stream : DefaultValuedAttr<Sched_Count, "0">;
def Sched_Label : DefaultValuedStrAttr<StrAttr, "">;

/// A command without operands.
class Sched_Command<string mnemonic> : Sched_Op<mnemonic,
    [Sched_CommandInterface, ParentOneOf<["StepOp", "InitializerOp"]>]> {
  let extraClassDeclaration = "::llvm::ArrayRef<::mlir::Attribute> getOperandAttrs() { return {}; }";
}
/// A command with operands: `(read @a[0, 4*T], weight @w[0], size T)`.
class Sched_CommandWithArgs<string mnemonic> : Sched_Command<mnemonic> {
  let extraClassDeclaration = "::llvm::ArrayRef<::mlir::Attribute> getOperandAttrs() { return getArgs().getValue(); }";
}

def Sched_LaunchOp : Sched_CommandWithArgs<"launch"> {
  let summary = "runs a kernel over a grid of workgroups";
  let description = [{
    The kernel gets one 64-bit word per operand (runtime/include/moert/kernel_abi.h).

    Example:
    ```mlir
    sched.launch @gemv_bf16_f32 grid(T ceildiv 4 times 3) (read @arena[0, 256*T], write @arena[4096, 512*T],
      weight @layers.0.q_proj.weight[0], table @layers.0.w1, size T, constant 128) label "layers.0.q_proj"
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$kernel, Sched_GridAttr:$grid, ArrayAttr:$args, Sched_Label:$label,
                       Sched_Stream:$stream);
  let assemblyFormat = [{
    $kernel `grid` `` custom<Grid>($grid) custom<Args>($args) (`label` $label^)? (`stream` $stream^)? attr-dict
  }];
  let builders = [OpBuilder<(ins "::llvm::StringRef":$kernel, "GridAttr":$grid, "::llvm::ArrayRef<::mlir::Attribute>":$args,
                                 CArg<"::llvm::StringRef", "{}">:$label, CArg<"int64_t", "0">:$stream)>];
}

def Sched_CopyOp : Sched_CommandWithArgs<"copy"> {
  let summary = "copies bytes";
  let description = [{
    Operand 0 is written, operand 1 is read, as many bytes as both extents say.

    Example:
    ```mlir
    sched.copy (write @arena[0, 4*T], read @tokens[0, 4*T])
    ```
  }];
  let arguments = (ins ArrayAttr:$args, Sched_Label:$label, Sched_Stream:$stream);
  let assemblyFormat = "custom<Args>($args) (`label` $label^)? (`stream` $stream^)? attr-dict";
  let builders = [OpBuilder<(ins "::mlir::Attribute":$destination, "::mlir::Attribute":$source,
                                 CArg<"::llvm::StringRef", "{}">:$label, CArg<"int64_t", "0">:$stream)>];
  let skipDefaultBuilders = 1;
  let hasVerifier = 1;
}

def Sched_FillOp : Sched_CommandWithArgs<"fill"> {
  let summary = "sets every byte to one value";
  let description = [{
    Example:
    ```mlir
    sched.fill (write @arena[0, 64*T]) value 0
    ```
  }];
  let arguments = (ins ArrayAttr:$args, ConfinedAttr<I64Attr, [IntNonNegative, IntMaxValue<255>]>:$value,
                       Sched_Label:$label, Sched_Stream:$stream);
  let assemblyFormat = "custom<Args>($args) `value` $value (`label` $label^)? (`stream` $stream^)? attr-dict";
  let builders = [OpBuilder<(ins "::mlir::Attribute":$destination, CArg<"int64_t", "0">:$value,
                                 CArg<"::llvm::StringRef", "{}">:$label, CArg<"int64_t", "0">:$stream)>];
  let skipDefaultBuilders = 1;
  let hasVerifier = 1;
}

def Sched_CollectiveOp : Sched_CommandWithArgs<"collective"> {
  let summary = "an operation of all ranks together";
  let description = [{
    Operand 0 is written and operand 1 is read, or one operand is both. With R ranks and the parts that a rank's bytes
    have in rank order:

    | kind | what rank r gets |
    |---|---|
    | `all_reduce_sum` | the sum over all ranks, in rank order, in f32; the same bytes everywhere |
    | `all_gather` | what rank 0, 1, ... had, behind each other |
    | `reduce_scatter_sum` | part r of the sum over all ranks, in rank order, in f32 |
    | `all_to_all` | part r of what rank 0, 1, ... had, behind each other |
    | `exchange` | from every rank as many rows of `row_bytes` as that rank's counts say for r; operands are received rows, rows to send, i32 [R] counts received, i32 [R] counts to send |

    `of` is the element type of a sum.

    Example:
    ```mlir
    sched.collective all_reduce_sum of f32 (readwrite @arena[0, 512*T])
    ```
  }];
  let arguments = (ins Sched_CollectiveKind:$kind, OptionalAttr<Sched_DType>:$element,
                       OptionalAttr<Sched_Positive>:$row_bytes, ArrayAttr:$args, Sched_Label:$label,
                       Sched_Stream:$stream);
  let assemblyFormat = [{
    $kind (`of` $element^)? (`row_bytes` $row_bytes^)? custom<Args>($args) (`label` $label^)? (`stream` $stream^)?
    attr-dict
  }];
  let builders = [OpBuilder<(ins "CollectiveKind":$kind, "::mlir::Type":$element, "int64_t":$rowBytes,
                                 "::llvm::ArrayRef<::mlir::Attribute>":$args, CArg<"::llvm::StringRef", "{}">:$label,
                                 CArg<"int64_t", "0">:$stream)>];
  let skipDefaultBuilders = 1;
  let extraClassDeclaration = [{
    ::llvm::ArrayRef<::mlir::Attribute> getOperandAttrs() { return getArgs().getValue(); }
    /// Checks what depends on the number of ranks; the verifier of the program calls it.
    ::llvm::LogicalResult verifyRanks(int64_t ranks);
  }];
  let hasVerifier = 1;
}

def Sched_GroupBeginOp : Sched_Command<"group_begin"> {
  let summary = "opens a group of commands that are handed over together";
  let description = [{
    The commands up to `group_end` are handed over together (as in an NCCL group); order is as without the group.

    Example:
    ```mlir
    sched.group_begin
    sched.group_end
    ```
  }];
  let arguments = (ins Sched_Label:$label, Sched_Stream:$stream);
  let assemblyFormat = "(`label` $label^)? (`stream` $stream^)? attr-dict";
}

def Sched_GroupEndOp : Sched_Command<"group_end"> {
  let summary = "closes a group of commands";
  let description = [{
    Example:
    ```mlir
    sched.group_begin
    sched.group_end
    ```
  }];
  let arguments = (ins Sched_Label:$label, Sched_Stream:$stream);
  let assemblyFormat = "(`label` $label^)? (`stream` $stream^)? attr-dict";
}

def Sched_RecordOp : Sched_Command<"record"> {
  let summary = "marks a point of a stream as an event";
  let description = [{
    Example:
    ```mlir
    sched.record 0 stream 1
    ```
  }];
  let arguments = (ins Sched_Count:$event, Sched_Label:$label, Sched_Stream:$stream);
  let assemblyFormat = "$event (`label` $label^)? (`stream` $stream^)? attr-dict";
}

def Sched_WaitOp : Sched_Command<"wait"> {
  let summary = "holds a stream until an event has passed";
  let description = [{
    Example:
    ```mlir
    sched.record 0 stream 1
    sched.wait 0
    ```
  }];
  let arguments = (ins Sched_Count:$event, Sched_Label:$label, Sched_Stream:$stream);
  let assemblyFormat = "$event (`label` $label^)? (`stream` $stream^)? attr-dict";
}

def Sched_HostCallOp : Sched_CommandWithArgs<"host_call"> {
  let summary = "calls a registered function of the host";
  let description = [{
    Example:
    ```mlir
    sched.host_call "count_exchange" (read @arena[0, 64])
    ```
  }];
  let arguments = (ins StrAttr:$callee, ArrayAttr:$args, Sched_Label:$label, Sched_Stream:$stream);
  let assemblyFormat = "$callee custom<Args>($args) (`label` $label^)? (`stream` $stream^)? attr-dict";
}

#endif // SCHED_OPS_TD
