// Weights on demand; see WeightReader.h.
#include "runtime/core/WeightReader.h"

#include "runtime/core/Checks.h"
#include "runtime/core/DeviceChoice.h"
#include "runtime/core/VariantChoice.h"

namespace moert {

Result<std::unique_ptr<WeightReader>> WeightReader::open(std::shared_ptr<Program> program,
                                                         const moert_session_options &options) {
  std::unique_ptr<WeightReader> reader(new WeightReader);
  WeightReader &r = *reader;
  r.program = std::move(program);
  const format::Program &root = r.program->root();
  if (!(options.deadline_seconds >= 0)) {
    return error(Code::InvalidArgument, "a deadline of ", options.deadline_seconds, " seconds: must not be negative");
  }
  const double deadline = options.deadline_seconds > 0 ? options.deadline_seconds : 30;
  Progress progress = [&](const char *stage, uint64_t done, uint64_t total) {
    if (options.progress) {
      options.progress(options.progress_user, stage, done, total);
    }
  };
  // What is computed here is read by the host: the CPU computes it.
  MOERT_TRY(chooseDevice(*r.program, "cpu").status());
  std::vector<VariantChoice> choices;
  MOERT_ASSIGN(chosen, chooseVariant(*r.program, options.variant, 1, nullptr, nullptr, choices));
  r.variantIndex = chosen;
  const format::Variant &variant = r.program->variant(chosen);
  MOERT_ASSIGN(backend, openCpuBackend({options.threads, options.pin != 0, deadline}));
  r.backend = std::move(backend);
  MOERT_TRY(r.backend->loadKernels(r.program->blobPath(chosen), r.program->blob(chosen), r.program->blobSize(chosen),
                                   "", variant, r.kernels));
  MOERT_TRY(r.weights.open(*r.program, chosen, {}, options.weights ? options.weights : "", options.verify_weights != 0,
                           *r.backend, progress, r.notes));
  r.initializers =
      std::make_unique<Initializers>(*r.program, chosen, RankPlace(), *r.backend, r.kernels, r.weights, "");
  for (uint32_t t = 0; root.tensors() && t < root.tensors()->size(); ++t) {
    r.tensorOfName.emplace(r.program->string(root.tensors()->Get(t)->name()), t);
  }
  for (uint32_t i = 0; variant.initializers() && i < variant.initializers()->size(); ++i) {
    const format::Initializer *initializer = variant.initializers()->Get(i);
    r.initializerOf[initializer->result()] = initializer;
  }
  return reader;
}

void WeightReader::release() {
  for (auto [tensor, memory] : computed) {
    weights.setTensor(tensor, nullptr);
    backend->release(memory);
  }
  computed.clear();
}

Status WeightReader::compute(uint32_t index) {
  const format::Tensor &tensor = *program->root().tensors()->Get(index);
  const std::string name = program->string(tensor.name());
  auto found = initializerOf.find(index);
  if (found == initializerOf.end()) {
    return error(Code::NotFound, "tensor '", name, "' is neither read nor computed by variant '",
                 program->variant(variantIndex).target()->str(), "'");
  }
  const format::Initializer &initializer = *found->second;
  const format::Variant &variant = program->variant(variantIndex);
  // The checks allow results of earlier initializers only, so this ends.
  for (uint32_t c = 0; c < initializer.command_count(); ++c) {
    const format::Command &command = *variant.commands()->Get(initializer.first_command() + c);
    for (uint32_t o = 0; o < command.operand_count(); ++o) {
      const format::Operand &operand = *variant.operands()->Get(command.first_operand() + o);
      if (operand.kind() == format::OperandKind::WeightTable) {
        return error(Code::Unsupported, "tensor '", name,
                     "' is computed from a table of tensors, which is only done "
                     "when a session is created");
      }
      if (operand.kind() == format::OperandKind::WeightSpan && operand.index() != index &&
          !weights.tensor(operand.index())) {
        MOERT_TRY(compute(operand.index()));
      }
    }
  }
  MOERT_ASSIGN(memory, backend->allocate(tensor.bytes(), concat("weight '", name, "'"), Contents::Undefined));
  computed.emplace_back(index, memory);
  MOERT_TRY(initializers->compute(initializer, static_cast<uint8_t *>(memory)));
  weights.setTensor(index, memory);
  return {};
}

Status WeightReader::read(const std::string &name, const void **data, size_t *size) {
  if (isStuck) {
    return error(Code::Deadline, "an earlier tensor was not computed by its deadline: open the weights again");
  }
  release();
  auto found = tensorOfName.find(name);
  if (found == tensorOfName.end()) {
    return error(Code::NotFound, program->package(), ": has no tensor '", name, "'");
  }
  if (!weights.tensor(found->second)) {
    Status status = compute(found->second);
    isStuck = status.code() == Code::Deadline && !status.ok();
    MOERT_TRY(status);
  }
  *data = weights.tensor(found->second);
  *size = size_t(program->root().tensors()->Get(found->second)->bytes());
  return {};
}

} // namespace moert
