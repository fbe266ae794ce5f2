//===- LinalgBuilder.cpp - Short forms for scalar and tensor code -----------===//

#include "lowering/MoeToLinalg/LinalgBuilder.h"
#include "mlir/Dialect/Utils/ReshapeOpsUtils.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include <limits>

using namespace mlir;
using namespace mlir::moe;

Value LinalgBuilder::index(int64_t value) { return arith::ConstantIndexOp::create(*this, value); }

Value LinalgBuilder::constant(Type type, double value) {
  return arith::ConstantOp::create(*this, getFloatAttr(type, value));
}

Value LinalgBuilder::constantInt(Type type, int64_t value) {
  return arith::ConstantOp::create(*this, getIntegerAttr(type, value));
}

Value LinalgBuilder::negativeInfinity(Type type) { return constant(type, -std::numeric_limits<double>::infinity()); }

Value LinalgBuilder::asIndex(Value integer) { return arith::IndexCastOp::create(*this, getIndexType(), integer); }

Value LinalgBuilder::asInt(Value index, Type type) { return arith::IndexCastOp::create(*this, type, index); }

Value LinalgBuilder::convert(Value value, Type type) {
  unsigned from = value.getType().getIntOrFloatBitWidth(), to = type.getIntOrFloatBitWidth();
  if (value.getType() == type) {
    return value;
  }
  if (from == to) {
    // bf16 and f16 do not convert into each other directly; f32 holds both exactly.
    return convert(convert(value, getF32Type()), type);
  }
  return from < to ? Value(arith::ExtFOp::create(*this, type, value))
                   : Value(arith::TruncFOp::create(*this, type, value));
}

Value LinalgBuilder::add(Value a, Value b) { return arith::AddFOp::create(*this, a, b); }
Value LinalgBuilder::sub(Value a, Value b) { return arith::SubFOp::create(*this, a, b); }
Value LinalgBuilder::mul(Value a, Value b) { return arith::MulFOp::create(*this, a, b); }
Value LinalgBuilder::div(Value a, Value b) { return arith::DivFOp::create(*this, a, b); }
Value LinalgBuilder::max(Value a, Value b) { return arith::MaximumFOp::create(*this, a, b); }
Value LinalgBuilder::exp(Value a) { return math::ExpOp::create(*this, a); }

Value LinalgBuilder::compare(arith::CmpFPredicate predicate, Value a, Value b) {
  return arith::CmpFOp::create(*this, predicate, a, b);
}

Value LinalgBuilder::compare(arith::CmpIPredicate predicate, Value a, Value b) {
  return arith::CmpIOp::create(*this, predicate, a, b);
}

Value LinalgBuilder::select(Value condition, Value yes, Value no) {
  return arith::SelectOp::create(*this, condition, yes, no);
}

Value LinalgBuilder::sigmoid(Value x) {
  Value one = constant(x.getType(), 1.0);
  Value power = exp(arith::NegFOp::create(*this, x));
  return div(one, add(one, power));
}

Value LinalgBuilder::loopIndex(int64_t dim) { return linalg::IndexOp::create(*this, dim); }

Sizes LinalgBuilder::sizes(Value tensor) {
  Sizes result;
  for (int64_t dim = 0, rank = cast<RankedTensorType>(tensor.getType()).getRank(); dim < rank; ++dim) {
    result.push_back(size(tensor, dim));
  }
  return result;
}

OpFoldResult LinalgBuilder::size(Value tensor, int64_t dim) {
  auto type = llvm::cast<RankedTensorType>(tensor.getType());
  if (!type.isDynamicDim(dim)) {
    return getIndexAttr(type.getDimSize(dim));
  }
  return tensor::DimOp::create(*this, tensor, dim).getResult();
}

Value LinalgBuilder::asValue(OpFoldResult size) {
  std::optional<int64_t> fixed = getConstantIntValue(size);
  return fixed ? index(*fixed) : llvm::cast<Value>(size);
}

Value LinalgBuilder::empty(ArrayRef<OpFoldResult> sizes, Type element) {
  return tensor::EmptyOp::create(*this, sizes, element);
}

Value LinalgBuilder::fill(ArrayRef<OpFoldResult> sizes, Value scalar) {
  Value init = empty(sizes, scalar.getType());
  return linalg::FillOp::create(*this, scalar, init).getResult(0);
}

Value LinalgBuilder::loops(ArrayRef<Operand> operands, Value init, ArrayRef<unsigned> resultDims, unsigned numLoops,
                           Body body) {
  SmallVector<AffineMap> maps;
  SmallVector<Value> inputs;
  auto addMap = [&](ArrayRef<unsigned> dims) {
    maps.push_back(AffineMap::getMultiDimMapWithTargets(numLoops, dims, getContext()));
  };
  for (const Operand &operand : operands) {
    inputs.push_back(operand.tensor);
    addMap(operand.dims);
  }
  addMap(resultDims);
  SmallVector<utils::IteratorType> iterators(numLoops, utils::IteratorType::reduction);
  for (unsigned dim : resultDims) {
    iterators[dim] = utils::IteratorType::parallel;
  }
  auto generic = linalg::GenericOp::create(*this, TypeRange(init.getType()), inputs, ValueRange(init), maps, iterators,
                                           [&](OpBuilder &nested, Location loc, ValueRange args) {
                                             LinalgBuilder inner(loc, nested);
                                             Value result = body(inner, args);
                                             linalg::YieldOp::create(inner, result);
                                           });
  return generic.getResult(0);
}

Value LinalgBuilder::elementwise(ValueRange operands, Type element, Body body) {
  unsigned rank = llvm::cast<RankedTensorType>(operands.front().getType()).getRank();
  SmallVector<unsigned> dims = llvm::to_vector(llvm::seq<unsigned>(0, rank));
  SmallVector<Operand> inputs;
  for (Value operand : operands) {
    inputs.push_back({operand, dims});
  }
  Sizes shape = sizes(operands.front());
  return loops(inputs, empty(shape, element), dims, rank, body);
}

Value LinalgBuilder::convertTensor(Value tensor, Type element) {
  if (elementOf(tensor) == element) {
    return tensor;
  }
  return elementwise(tensor, element, [&](LinalgBuilder &b, ValueRange args) { return b.convert(args[0], element); });
}

/// The reassociation that joins dim `dropped`, of size 1, with a neighbour.
static SmallVector<ReassociationIndices> joinWithNeighbour(int64_t rank, unsigned dropped) {
  SmallVector<ReassociationIndices> groups;
  int64_t joined = std::min<int64_t>(dropped, rank - 2);
  for (int64_t dim = 0; dim < rank; ++dim) {
    if (dim != joined + 1) {
      groups.emplace_back();
    }
    groups.back().push_back(dim);
  }
  return groups;
}

Value LinalgBuilder::slice(Value tensor, ArrayRef<OpFoldResult> offsets, ArrayRef<OpFoldResult> sizes,
                           std::optional<unsigned> dropped) {
  int64_t rank = llvm::cast<RankedTensorType>(tensor.getType()).getRank();
  Sizes strides(rank, getIndexAttr(1));
  Value part = tensor::ExtractSliceOp::create(*this, tensor, offsets, sizes, strides);
  return dropped ? Value(tensor::CollapseShapeOp::create(*this, part, joinWithNeighbour(rank, *dropped))) : part;
}

Value LinalgBuilder::insert(Value part, Value into, ArrayRef<OpFoldResult> offsets, ArrayRef<OpFoldResult> sizes,
                            std::optional<unsigned> dropped) {
  int64_t rank = llvm::cast<RankedTensorType>(into.getType()).getRank();
  if (dropped) {
    auto shape = llvm::map_to_vector(
        sizes, [](OpFoldResult size) { return getConstantIntValue(size).value_or(ShapedType::kDynamic); });
    auto type = RankedTensorType::get(shape, elementOf(part));
    part = tensor::ExpandShapeOp::create(*this, type, part, joinWithNeighbour(rank, *dropped), sizes);
  }
  Sizes strides(rank, getIndexAttr(1));
  return tensor::InsertSliceOp::create(*this, part, into, offsets, sizes, strides);
}

Value LinalgBuilder::splitLast(Value tensor, ArrayRef<int64_t> parts) {
  auto type = llvm::cast<RankedTensorType>(tensor.getType());
  int64_t rank = type.getRank();
  SmallVector<ReassociationIndices> groups;
  for (int64_t dim = 0; dim < rank; ++dim) {
    groups.push_back({dim});
  }
  Sizes shape = sizes(tensor);
  shape.pop_back();
  SmallVector<int64_t> staticShape(type.getShape().drop_back());
  for (auto [i, part] : llvm::enumerate(parts)) {
    if (i > 0) {
      groups.back().push_back(rank - 1 + static_cast<int64_t>(i));
    }
    shape.push_back(getIndexAttr(part));
    staticShape.push_back(part);
  }
  auto result = RankedTensorType::get(staticShape, type.getElementType());
  return tensor::ExpandShapeOp::create(*this, result, tensor, groups, shape);
}

Value LinalgBuilder::joinFrom(Value tensor, int64_t first) {
  int64_t rank = llvm::cast<RankedTensorType>(tensor.getType()).getRank();
  SmallVector<ReassociationIndices> groups;
  for (int64_t dim = 0; dim < rank; ++dim) {
    if (dim <= first) {
      groups.emplace_back();
    }
    groups.back().push_back(dim);
  }
  return tensor::CollapseShapeOp::create(*this, tensor, groups);
}

Value LinalgBuilder::castTo(Value tensor, Type type) {
  return tensor.getType() == type ? tensor : Value(tensor::CastOp::create(*this, type, tensor));
}

Value LinalgBuilder::extract(Value tensor, ValueRange indices) {
  return tensor::ExtractOp::create(*this, tensor, indices);
}

Value LinalgBuilder::project(Value x, Value weight, Value bias, Type acc) {
  OpFoldResult tokens = size(x, 0), width = size(weight, 0);
  Value zero = constant(acc, 0.0);
  Value init = fill({tokens, width}, zero);
  Value product = loops({{x, {0, 2}}, {weight, {1, 2}}}, init, {0, 1}, 3, [&](LinalgBuilder &b, ValueRange args) {
    Value left = b.convert(args[0], acc), right = b.convert(args[1], acc);
    Value term = b.mul(left, right);
    return b.add(args[2], term);
  });
  if (!bias) {
    return product;
  }
  return loops({{product, {0, 1}}, {bias, {1}}}, empty({tokens, width}, acc), {0, 1}, 2,
               [&](LinalgBuilder &b, ValueRange args) { return b.add(args[0], b.convert(args[1], acc)); });
}

Type moe::accumulatorType(Type element) { return element.isF64() ? element : Float32Type::get(element.getContext()); }
