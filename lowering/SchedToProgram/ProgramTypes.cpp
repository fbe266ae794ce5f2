//===- ProgramTypes.cpp - Element types and extents in both worlds ----------===//

#include "lowering/SchedToProgram/ProgramTypes.h"

using namespace mlir;
using namespace mlir::sched;
using moert::format::DType;
using moert::readers::ElementType;

Type sched::fromDType(DType dtype, MLIRContext *context) {
  switch (dtype) {
  case DType::F32:
    return Float32Type::get(context);
  case DType::BF16:
    return BFloat16Type::get(context);
  case DType::F16:
    return Float16Type::get(context);
  case DType::F64:
    return Float64Type::get(context);
  case DType::I32:
    return IntegerType::get(context, 32);
  case DType::I64:
    return IntegerType::get(context, 64);
  case DType::U8:
    return IntegerType::get(context, 8, IntegerType::Unsigned);
  case DType::I8:
    return IntegerType::get(context, 8);
  case DType::F8E4M3:
    return Float8E4M3FNType::get(context);
  case DType::F8E5M2:
    return Float8E5M2Type::get(context);
  case DType::F8E8M0:
    return Float8E8M0FNUType::get(context);
  case DType::F4:
    return Float4E2M1FNType::get(context);
  case DType::I16:
    return IntegerType::get(context, 16);
  case DType::U16:
    return IntegerType::get(context, 16, IntegerType::Unsigned);
  case DType::U32:
    return IntegerType::get(context, 32, IntegerType::Unsigned);
  case DType::U64:
    return IntegerType::get(context, 64, IntegerType::Unsigned);
  case DType::BOOL:
    return IntegerType::get(context, 1);
  }
  return nullptr; // A value that a file holds, but no version knows.
}

std::optional<DType> sched::toDType(Type type) {
  for (DType dtype : moert::format::EnumValuesDType()) {
    if (fromDType(dtype, type.getContext()) == type) {
      return dtype;
    }
  }
  return std::nullopt;
}

Type sched::fromElementType(ElementType type, MLIRContext *context) {
  static constexpr std::pair<ElementType, DType> names[] = {
      {ElementType::Bool, DType::BOOL},     {ElementType::F4, DType::F4},         {ElementType::U8, DType::U8},
      {ElementType::I8, DType::I8},         {ElementType::F8E5M2, DType::F8E5M2}, {ElementType::F8E4M3, DType::F8E4M3},
      {ElementType::F8E8M0, DType::F8E8M0}, {ElementType::I16, DType::I16},       {ElementType::U16, DType::U16},
      {ElementType::F16, DType::F16},       {ElementType::BF16, DType::BF16},     {ElementType::I32, DType::I32},
      {ElementType::U32, DType::U32},       {ElementType::F32, DType::F32},       {ElementType::F64, DType::F64},
      {ElementType::I64, DType::I64},       {ElementType::U64, DType::U64},
  };
  for (auto [element, dtype] : names) {
    if (element == type) {
      return fromDType(dtype, context);
    }
  }
  return nullptr;
}

moert::format::Extent sched::toExtent(ExtentAttr extent) {
  return moert::format::Extent(extent.getFixed(), extent.getPerToken(), extent.getPerRow(), extent.getPerSequence(),
                               extent.getPerCacheRow());
}
