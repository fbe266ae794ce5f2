//===- Flow.cpp - Basic blocks and reconvergence points -------------------===//
//
// Lanes of a warp that part at a branch meet again at the branch's immediate
// post-dominator (Cooper, Harvey and Kennedy's iteration on the reversed
// graph). Paths that only end the thread are left out first: in
//
//     if (a) { if (b) { exit } ... } join:
//
// the lanes that do not exit still meet at `join`, though not every path from
// the outer branch passes it. A kernel's bare `ret` counts as such an end.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/ParserState.h"

#include <algorithm>

namespace moert::emulator::ptx {

namespace {

bool endsBlock(Opcode op) {
  return op == Opcode::Bra || op == Opcode::BrxIdx || op == Opcode::Ret || op == Opcode::Exit || op == Opcode::Trap;
}

/// Splits instructions into blocks and turns targets into block indices.
void splitBlocks(Function &function) {
  auto count = static_cast<uint32_t>(function.instructions.size());
  std::vector<bool> leader(count + 1, false);
  leader[0] = true;
  for (uint32_t i = 0; i < count; ++i) {
    const Instruction &instruction = function.instructions[i];
    if (endsBlock(instruction.op)) {
      leader[i + 1] = true;
    }
    if (instruction.op == Opcode::Bra) {
      leader[function.operand(instruction, 0).index] = true;
    }
  }
  for (const std::vector<uint32_t> &table : function.branchTables) {
    for (uint32_t target : table) {
      leader[target] = true;
    }
  }
  for (uint32_t i = 0; i < count; ++i) {
    if (leader[i]) {
      if (!function.blocks.empty()) {
        function.blocks.back().end = i;
      }
      function.blocks.emplace_back();
      function.blocks.back().first = i;
    }
    function.instructions[i].block = static_cast<uint32_t>(function.blocks.size() - 1);
  }
  function.blocks.back().end = count;
  for (std::vector<uint32_t> &table : function.branchTables) {
    for (uint32_t &target : table) {
      target = function.instructions[target].block;
    }
  }
  for (Instruction &instruction : function.instructions) {
    if (instruction.op == Opcode::Bra) {
      uint32_t &target = function.operands[instruction.firstOperand].index;
      target = function.instructions[target].block;
    }
  }
}

void findSuccessors(Function &function) {
  for (uint32_t b = 0; b < function.blocks.size(); ++b) {
    Block &block = function.blocks[b];
    const Instruction &last = function.instructions[block.end - 1];
    auto add = [&](uint32_t target) {
      if (std::find(block.successors.begin(), block.successors.end(), target) == block.successors.end()) {
        block.successors.push_back(target);
      }
    };
    if (last.op == Opcode::Bra) {
      add(function.operand(last, 0).index);
    } else if (last.op == Opcode::BrxIdx) {
      for (uint32_t target : function.branchTables[function.operand(last, 1).index]) {
        add(target);
      }
    }
    bool fallsThrough = !endsBlock(last.op) || last.guard != none;
    if (fallsThrough && b + 1 < function.blocks.size()) {
      add(b + 1);
    }
  }
}

/// Blocks from which a thread can only end, without doing anything worth meeting for: those that lead to a trap and
/// nowhere else, and a kernel's bare `ret` or `exit` (or a bare jump to one).
std::vector<bool> findDeadEnds(const Function &function) {
  size_t count = function.blocks.size();
  std::vector<bool> trapped(count, false), bare(count, false);
  bool changed = true;
  for (unsigned round = 0; changed && round < 64; ++round) {
    changed = false;
    for (size_t b = count; b-- > 0;) {
      const Block &block = function.blocks[b];
      const Instruction &last = function.instructions[block.end - 1];
      bool single = block.end == block.first + 1;
      bool toTrap = !block.successors.empty() || last.op == Opcode::Trap, toEnd = single;
      for (uint32_t successor : block.successors) {
        toTrap = toTrap && trapped[successor];
        toEnd = toEnd && bare[successor];
      }
      toEnd =
          toEnd && (block.successors.empty() ? last.op == Opcode::Exit || (function.isKernel && last.op == Opcode::Ret)
                                             : last.op == Opcode::Bra);
      changed = changed || toTrap != trapped[b] || toEnd != bare[b];
      trapped[b] = toTrap;
      bare[b] = toEnd;
    }
  }
  for (size_t b = 0; b < count; ++b) {
    trapped[b] = trapped[b] || bare[b];
  }
  return trapped;
}

/// Whether a way along `next` leads from block `b` back to it.
bool reachesItself(const std::vector<std::vector<uint32_t>> &next, uint32_t b) {
  std::vector<bool> seen(next.size(), false);
  std::vector<uint32_t> work{b};
  while (!work.empty()) {
    const uint32_t node = work.back();
    work.pop_back();
    for (uint32_t successor : next[node]) {
      if (successor == b) {
        return true;
      }
      if (!seen[successor]) {
        seen[successor] = true;
        work.push_back(successor);
      }
    }
  }
  return false;
}

void findReconvergence(Function &function) {
  size_t count = function.blocks.size();
  auto exitNode = static_cast<uint32_t>(count);
  std::vector<bool> dead = findDeadEnds(function);
  // Edges of the graph that decides where lanes meet.
  std::vector<std::vector<uint32_t>> next(count + 1), previous(count + 1);
  for (uint32_t b = 0; b < count; ++b) {
    const Block &block = function.blocks[b];
    for (uint32_t successor : block.successors) {
      if (!dead[successor]) {
        next[b].push_back(successor);
      }
    }
    if (next[b].empty()) {
      next[b] = block.successors;
    }
    if (next[b].empty()) {
      next[b].push_back(exitNode);
    }
  }
  // Post-order from the exit on reversed edges; a loop without exit gets an edge to it from its last block.
  std::vector<uint32_t> order(count + 1, none), byOrder;
  auto build = [&] {
    for (auto &list : previous) {
      list.clear();
    }
    for (uint32_t b = 0; b < count; ++b) {
      for (uint32_t successor : next[b]) {
        previous[successor].push_back(b);
      }
    }
    std::fill(order.begin(), order.end(), none);
    byOrder.clear();
    std::vector<bool> seen(count + 1, false);
    std::vector<std::pair<uint32_t, size_t>> stack{{exitNode, 0}};
    seen[exitNode] = true;
    while (!stack.empty()) {
      auto &[node, edge] = stack.back();
      if (edge < previous[node].size()) {
        uint32_t child = previous[node][edge++];
        if (!seen[child]) {
          seen[child] = true;
          stack.push_back({child, 0});
        }
      } else {
        order[node] = static_cast<uint32_t>(byOrder.size());
        byOrder.push_back(node);
        stack.pop_back();
      }
    }
    return seen;
  };
  std::vector<bool> seen = build();
  bool added = false;
  // A loop that is left to a dead end only, as one at the end of a kernel may be, is left there all the same.
  for (uint32_t b = 0; b < count; ++b) {
    const Block &block = function.blocks[b];
    if (!seen[b] && next[b].size() < block.successors.size() && reachesItself(next, b)) {
      next[b].push_back(exitNode);
      added = true;
    }
  }
  if (added) {
    seen = build();
  }
  // All loops without exit at once: what reaches a newly connected block needs no edge of its own.
  for (uint32_t b = static_cast<uint32_t>(count); b-- > 0;) {
    if (!seen[b]) {
      next[b].push_back(exitNode);
      added = true;
      std::vector<uint32_t> work{b};
      seen[b] = true;
      while (!work.empty()) {
        uint32_t node = work.back();
        work.pop_back();
        for (uint32_t before : previous[node]) {
          if (!seen[before]) {
            seen[before] = true;
            work.push_back(before);
          }
        }
      }
    }
  }
  if (added) {
    build();
  }
  std::vector<uint32_t> dominator(count + 1, none);
  dominator[exitNode] = exitNode;
  bool changed = true;
  while (changed) {
    changed = false;
    for (size_t i = byOrder.size(); i-- > 0;) {
      uint32_t node = byOrder[i];
      if (node == exitNode) {
        continue;
      }
      uint32_t best = none;
      for (uint32_t successor : next[node]) {
        if (dominator[successor] == none) {
          continue;
        }
        uint32_t a = successor, b = best;
        if (best == none) {
          best = a;
          continue;
        }
        while (a != b) {
          while (order[a] < order[b]) {
            a = dominator[a];
          }
          while (order[b] < order[a]) {
            b = dominator[b];
          }
        }
        best = a;
      }
      if (dominator[node] != best) {
        dominator[node] = best;
        changed = true;
      }
    }
  }
  for (uint32_t b = 0; b < count; ++b) {
    function.blocks[b].reconvergence = dominator[b] == exitNode ? none : dominator[b];
  }
}

} // namespace

void buildBlocks(Function &function) {
  splitBlocks(function);
  findSuccessors(function);
  findReconvergence(function);
}

} // namespace moert::emulator::ptx
