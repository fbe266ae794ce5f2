//===- Checks.h - What is proved of a program before it may run --*- C++ -*-===//
//
// The FlatBuffers verifier proves that the file is well-formed; these checks prove that it means something: every
// index and slice in bounds for every T, M, B and C a session can bind, every step covered, and no two commands that
// may run at the same time in conflict. Whatever they accept, the session executes without another check.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_CHECKS_H
#define MOERT_CORE_CHECKS_H

#include "runtime/core/Status.h"
#include "runtime/format/program_generated.h"

#include <string>
#include <vector>

namespace moert {

/// Of a tensor that an initializer writes instead of a file.
constexpr uint32_t kNoFile = 0xffffffffu;
/// The largest Tmax, B and C that are accepted: products of two stay far from 64 bits.
constexpr int64_t kMaxSize = int64_t(1) << 31;

/// Parts of the program that every variant shares: version-independent limits, files, tensors, tables.
Status checkProgram(const format::Program &program);

/// Buffers, operands, commands, steps and initializers of one variant, its hazards included.
Status checkVariant(const format::Program &program, const format::Variant &variant);

/// Name of command `index` of `variant` for messages: "command 12 'layers.0.q_proj'".
std::string describeCommand(const format::Program &program, const format::Variant &variant, uint32_t index);

/// Proves that no two commands of `step` that nothing orders conflict (streams and events), and that within each
/// launch a written slice overlaps no other.
Status checkHazards(const format::Program &program, const format::Variant &variant, const format::StepVariant &step);

/// Whether commands `first` and `second` of `variant` may run at the same time when T is at most `maxTokens`.
bool areIndependent(const format::Variant &variant, const format::Command &first, const format::Command &second,
                    int64_t maxTokens);

/// Whether command `writer` of `variant` writes what operand `o` of `reader` is, when T is at most `maxTokens`.
bool writesTo(const format::Variant &variant, const format::Command &writer, const format::Command &reader, uint32_t o,
              int64_t maxTokens);

/// What tensor map `index` of `variant` is of, as the operand that would point at it.
format::Operand weightOf(const format::Variant &variant, uint32_t index);

/// Whether a name of a file in a package or checkpoint stays inside its folder.
bool isSafeRelativePath(const std::string &path);

} // namespace moert

#endif // MOERT_CORE_CHECKS_H
