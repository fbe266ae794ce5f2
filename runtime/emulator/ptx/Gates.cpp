//===- Gates.cpp - Which .version and .target a module must state ----------===//
//
// What came later than the form that it belongs to: modifiers, scopes and
// special registers. Assemblers refuse them in an older module, and so does this:
// a kernel that is tested here must not fail to load on a card.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/Table.h"

namespace moert::emulator::ptx {

Gate gateOf(const Form &form, const Modifiers &mods) {
  Gate gate{form.ptx, form.sm};
  auto need = [&](bool used, uint16_t ptx, uint16_t sm) {
    gate.ptx = used && gate.ptx < ptx ? ptx : gate.ptx;
    gate.sm = used && (gate.sm & (archSpecific - 1)) < sm ? sm : gate.sm;
  };
  need(mods.space == Space::SharedCluster || mods.scope == Scope::Cluster, 78, 90);
  need(form.op == Opcode::MbarrierArrive && mods.sem == Sem::Relaxed, 80, 90);
  need(form.op == Opcode::MbarrierArriveDrop && mods.sem == Sem::Relaxed, 80, 90);
  need(form.op == Opcode::BarrierCluster && mods.sem != Sem::None, 80, 90);
  const bool updates = form.op == Opcode::Atom || form.op == Opcode::Red;
  need(updates && mods.scope != Scope::None, 50, 60);
  need(updates && mods.sem != Sem::None, 60, 70);
  need(mods.evicts, 74, 70);
  need(mods.ofCta && form.op != Opcode::CpAsync, 78, 30);
  need(mods.ofFunction, 83, 0);
  need(mods.cacheHint, 74, 80);
  need(mods.prefetchBytes == 256, 74, 80);
  need(mods.prefetchBytes != 0, 74, 75);
  return gate;
}

Gate gateOf(SpecialRegister special) {
  using S = SpecialRegister;
  if (special >= S::ReservedSmemOffsetBegin && special <= S::ReservedSmemOffset1) {
    return {76, 80};
  }
  switch (special) {
  case S::ClusteridX:
  case S::ClusteridY:
  case S::ClusteridZ:
  case S::NclusteridX:
  case S::NclusteridY:
  case S::NclusteridZ:
  case S::ClusterCtaidX:
  case S::ClusterCtaidY:
  case S::ClusterCtaidZ:
  case S::ClusterNctaidX:
  case S::ClusterNctaidY:
  case S::ClusterNctaidZ:
  case S::ClusterCtarank:
  case S::ClusterNctarank:
  case S::IsExplicitCluster:
    return {78, 90};
  case S::AggrSmemSize:
    return {81, 90};
  case S::TotalSmemSize:
  case S::DynamicSmemSize:
    return {41, 20};
  case S::CurrentGraphExec:
    return {80, 50};
  default:
    return {};
  }
}

} // namespace moert::emulator::ptx
