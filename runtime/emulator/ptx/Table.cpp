//===- Table.cpp - The instruction table, ready for matching --------------===//
//
// Compiles the lines of the table once per process: words get their meaning
// (which field of Modifiers they set), groups are expanded, operand letters
// become slots. Matching a mnemonic is then a walk over a few pointers.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/Table.h"

#include <cstring>
#include <deque>
#include <unordered_map>

namespace moert::emulator::ptx {

namespace {
/// Which field of Modifiers a word sets.
enum class Field : uint8_t {
  Nothing,
  Flag,
  SpaceIs,
  SourceIs,
  SemIs,
  ScopeIs,
  CacheIs,
  RoundIs,
  HalfIs,
  CmpIs,
  BoolIs,
  ReduceIs,
  ModeIs,
  CompletionIs,
  MajorAIs,
  MajorBIs,
  VectorIs,
  DimsIs,
  ShapeIs,
  PrefetchIs
};
} // namespace

struct Word {
  const char *alias; ///< how the table names it
  const char *text;  ///< how PTX writes it
  Field field = Field::Nothing;
  uint32_t value = 0;
  bool Modifiers::*flag = nullptr;
};

namespace {

template <typename T> constexpr uint32_t value(T t) { return static_cast<uint32_t>(t); }

#define SPACE(a, t, v) {a, t, Field::SpaceIs, value(Space::v)}
#define MODE(a, t, v) {a, t, Field::ModeIs, value(Mode::v)}
#define CMP(a, t, v) {a, t, Field::CmpIs, value(Cmp::v)}
#define REDUCE(t, v) {t, t, Field::ReduceIs, value(Reduce::v)}
#define FLAG(t, member) {t, t, Field::Flag, 0, &Modifiers::member}
#define PLAIN(t) {t, t}

const Word words[] = {
    // Words that say nothing beyond the opcode, and hints.
    PLAIN("async"),
    PLAIN("bulk"),
    PLAIN("tensor"),
    PLAIN("prefetch"),
    PLAIN("reduce"),
    PLAIN("replace"),
    PLAIN("cp_fenceproxy"),
    PLAIN("commit_group"),
    PLAIN("wait_group"),
    PLAIN("wait_all"),
    PLAIN("mbarrier"),
    PLAIN("arrive"),
    PLAIN("arrive_drop"),
    PLAIN("init"),
    PLAIN("inval"),
    PLAIN("complete_tx"),
    PLAIN("test_wait"),
    PLAIN("try_wait"),
    PLAIN("pending_count"),
    PLAIN("proxy"),
    PLAIN("mbarrier_init"),
    PLAIN("sync"),
    PLAIN("warp"),
    PLAIN("mma"),
    PLAIN("mma_async"),
    PLAIN("load"),
    PLAIN("store"),
    PLAIN("fence"),
    PLAIN("pack"),
    PLAIN("clamp"),
    PLAIN("xorsign"),
    PLAIN("tensormap"),
    PLAIN("b1024"),
    PLAIN("mask"),
    {"mmapopc", "popc"},
    {"barcta", "cta"},
    {"L2policy", "L2"},
    FLAG("L1::evict_normal", evicts),
    FLAG("L1::evict_unchanged", evicts),
    FLAG("L1::evict_first", evicts),
    FLAG("L1::evict_last", evicts),
    FLAG("L1::no_allocate", evicts),
    PLAIN("L2::evict_normal"),
    PLAIN("L2::evict_first"),
    PLAIN("L2::evict_last"),
    PLAIN("L2::evict_unchanged"),
    FLAG("ftz", ftz),
    FLAG("sat", sat),
    FLAG("satfinite", satfinite),
    FLAG("relu", relu),
    FLAG("approx", approx),
    FLAG("full", full),
    FLAG("NaN", nan),
    FLAG("abs", xorsignAbs),
    FLAG("oob", oob),
    FLAG("cc", cc),
    FLAG("wrap", wrap),
    FLAG("shiftamt", shiftAmount),
    FLAG("uni", uniform),
    FLAG("aligned", aligned),
    FLAG("nc", nonCoherent),
    FLAG("L2::cache_hint", cacheHint),
    FLAG("to", to),
    FLAG("parity", parity),
    FLAG("noComplete", noComplete),
    FLAG("expect_tx", expectTx),
    FLAG("noinc", noInc),
    FLAG("trans", transposed),
    FLAG("multicast::cluster", multicast),
    FLAG("read", read),
    FLAG("noftz", noftz),
    SPACE("const", "const", Const),
    SPACE("global", "global", Global),
    SPACE("local", "local", Local),
    SPACE("param", "param", Param),
    {"param::entry", "param::entry", Field::SpaceIs, value(Space::Param), &Modifiers::ofFunction},
    {"param::func", "param::func", Field::SpaceIs, value(Space::Param), &Modifiers::ofFunction},
    SPACE("shared", "shared", Shared),
    {"shared::cta", "shared::cta", Field::SpaceIs, value(Space::Shared), &Modifiers::ofCta},
    SPACE("shared::cluster", "shared::cluster", SharedCluster),
    {"from", "global", Field::SourceIs, value(Space::Global)},
    {"fromshared", "shared::cta", Field::SourceIs, value(Space::Shared)},
    {"weak", "weak", Field::SemIs, value(Sem::Weak)},
    {"volatile", "volatile", Field::SemIs, value(Sem::Volatile)},
    {"relaxed", "relaxed", Field::SemIs, value(Sem::Relaxed)},
    {"acquire", "acquire", Field::SemIs, value(Sem::Acquire)},
    {"release", "release", Field::SemIs, value(Sem::Release)},
    {"acq_rel", "acq_rel", Field::SemIs, value(Sem::AcqRel)},
    {"sc", "sc", Field::SemIs, value(Sem::SeqCst)},
    {"mmio", "mmio", Field::SemIs, value(Sem::Mmio)},
    {"cta", "cta", Field::ScopeIs, value(Scope::Cta)},
    {"cluster", "cluster", Field::ScopeIs, value(Scope::Cluster)},
    {"gpu", "gpu", Field::ScopeIs, value(Scope::Gpu)},
    {"gl", "gl", Field::ScopeIs, value(Scope::Gpu)},
    {"sys", "sys", Field::ScopeIs, value(Scope::Sys)},
    {"ca", "ca", Field::CacheIs, value(Cache::Ca)},
    {"cg", "cg", Field::CacheIs, value(Cache::Cg)},
    {"cs", "cs", Field::CacheIs, value(Cache::Cs)},
    {"lu", "lu", Field::CacheIs, value(Cache::Lu)},
    {"cv", "cv", Field::CacheIs, value(Cache::Cv)},
    {"wb", "wb", Field::CacheIs, value(Cache::Wb)},
    {"wt", "wt", Field::CacheIs, value(Cache::Wt)},
    {"rn", "rn", Field::RoundIs, value(Round::RN)},
    {"rz", "rz", Field::RoundIs, value(Round::RZ)},
    {"rm", "rm", Field::RoundIs, value(Round::RM)},
    {"rp", "rp", Field::RoundIs, value(Round::RP)},
    {"rni", "rni", Field::RoundIs, value(Round::RNI)},
    {"rzi", "rzi", Field::RoundIs, value(Round::RZI)},
    {"rmi", "rmi", Field::RoundIs, value(Round::RMI)},
    {"rpi", "rpi", Field::RoundIs, value(Round::RPI)},
    {"rna", "rna", Field::RoundIs, value(Round::RNA)},
    {"lo", "lo", Field::HalfIs, value(Half::Lo)},
    {"hi", "hi", Field::HalfIs, value(Half::Hi)},
    {"wide", "wide", Field::HalfIs, value(Half::Wide)},
    CMP("eq", "eq", Eq),
    CMP("ne", "ne", Ne),
    CMP("lt", "lt", Lt),
    CMP("le", "le", Le),
    CMP("gt", "gt", Gt),
    CMP("ge", "ge", Ge),
    CMP("cmplo", "lo", Lo),
    CMP("ls", "ls", Ls),
    CMP("cmphi", "hi", Hi),
    CMP("hs", "hs", Hs),
    CMP("equ", "equ", Equ),
    CMP("neu", "neu", Neu),
    CMP("ltu", "ltu", Ltu),
    CMP("leu", "leu", Leu),
    CMP("gtu", "gtu", Gtu),
    CMP("geu", "geu", Geu),
    CMP("num", "num", Num),
    CMP("nan", "nan", Nan),
    {"booland", "and", Field::BoolIs, value(BoolOp::And)},
    {"boolor", "or", Field::BoolIs, value(BoolOp::Or)},
    {"boolxor", "xor", Field::BoolIs, value(BoolOp::Xor)},
    REDUCE("add", Add),
    REDUCE("min", Min),
    REDUCE("max", Max),
    REDUCE("and", And),
    REDUCE("or", Or),
    REDUCE("xor", Xor),
    REDUCE("inc", Inc),
    REDUCE("dec", Dec),
    REDUCE("exch", Exch),
    REDUCE("cas", Cas),
    REDUCE("popc", Popc),
    MODE("up", "up", Up),
    MODE("down", "down", Down),
    MODE("bfly", "bfly", Bfly),
    MODE("idx", "idx", Idx),
    MODE("all", "all", All),
    MODE("any", "any", Any),
    MODE("voteuni", "uni", Uni),
    MODE("ballot", "ballot", Ballot),
    MODE("finite", "finite", Finite),
    MODE("infinite", "infinite", Infinite),
    MODE("number", "number", Number),
    MODE("notanumber", "notanumber", NotANumber),
    MODE("normal", "normal", Normal),
    MODE("subnormal", "subnormal", Subnormal),
    MODE("f4e", "f4e", F4e),
    MODE("b4e", "b4e", B4e),
    MODE("rc8", "rc8", Rc8),
    MODE("ecl", "ecl", Ecl),
    MODE("ecr", "ecr", Ecr),
    MODE("rc16", "rc16", Rc16),
    MODE("l", "l", Left),
    MODE("r", "r", Right),
    MODE("barsync", "sync", Sync),
    MODE("bararrive", "arrive", Arrive),
    MODE("barred", "red", Red),
    MODE("wait", "wait", Wait),
    MODE("launch_dependents", "launch_dependents", LaunchDependents),
    MODE("inc_reg", "inc", Inc),
    MODE("dec_reg", "dec", Dec),
    MODE("tile", "tile", Tile),
    MODE("im2col", "im2col", Im2col),
    MODE("im2col_no_offs", "im2col_no_offs", Im2colNoOffs),
    MODE("alias", "alias", Alias),
    MODE("asyncproxy", "async", Async),
    MODE("tensormap::generic", "tensormap::generic", Tensormap),
    MODE("fractional", "fractional", Fractional),
    MODE("range", "range", Range),
    MODE("cvtpolicy", "cvt", Cvt),
    MODE("L1", "L1", L1),
    MODE("L2", "L2", L2),
    MODE("fraga", "a", FragmentA),
    MODE("fragb", "b", FragmentB),
    MODE("fragc", "c", FragmentC),
    MODE("fragd", "d", FragmentD),
    MODE("mmaxor", "xor", XorPopc),
    MODE("mmaand", "and", AndPopc),
    MODE("global_address", "global_address", GlobalAddress),
    MODE("rank", "rank", Rank),
    MODE("box_dim", "box_dim", BoxDim),
    MODE("global_dim", "global_dim", GlobalDim),
    MODE("global_stride", "global_stride", GlobalStride),
    MODE("element_stride", "element_stride", ElementStride),
    MODE("elemtype", "elemtype", Elemtype),
    MODE("interleave_layout", "interleave_layout", InterleaveLayout),
    MODE("swizzle_mode", "swizzle_mode", SwizzleMode),
    MODE("fill_mode", "fill_mode", FillMode),
    {"mbarrier::complete_tx::bytes", "mbarrier::complete_tx::bytes", Field::CompletionIs, value(Completion::Mbarrier)},
    {"bulk_group", "bulk_group", Field::CompletionIs, value(Completion::BulkGroup)},
    {"arow", "row", Field::MajorAIs, value(Major::Row)},
    {"acol", "col", Field::MajorAIs, value(Major::Col)},
    {"brow", "row", Field::MajorBIs, value(Major::Row)},
    {"bcol", "col", Field::MajorBIs, value(Major::Col)},
    {"v2", "v2", Field::VectorIs, 2},
    {"v4", "v4", Field::VectorIs, 4},
    {"v8", "v8", Field::VectorIs, 8},
    {"x1", "x1", Field::VectorIs, 1},
    {"x2", "x2", Field::VectorIs, 2},
    {"x4", "x4", Field::VectorIs, 4},
    {"1d", "1d", Field::DimsIs, 1},
    {"2d", "2d", Field::DimsIs, 2},
    {"3d", "3d", Field::DimsIs, 3},
    {"4d", "4d", Field::DimsIs, 4},
    {"5d", "5d", Field::DimsIs, 5},
    {"L2::64B", "L2::64B", Field::PrefetchIs, 64},
    {"L2::128B", "L2::128B", Field::PrefetchIs, 128},
    {"L2::256B", "L2::256B", Field::PrefetchIs, 256},
};

const std::pair<const char *, const char *> groups[] = {
    {"rnd", "rn|rz|rm|rp"},
    {"rndi", "rni|rzi|rmi|rpi"},
    {"cmp", "eq|ne|lt|le|gt|ge|cmplo|ls|cmphi|hs|equ|neu|ltu|leu|gtu|geu|num|nan"},
    {"bool", "booland|boolor|boolxor"},
    {"testp", "finite|infinite|number|notanumber|normal|subnormal"},
    {"prmt", "f4e|b4e|rc8|ecl|ecr|rc16"},
    {"scope", "cta|cluster|gpu|sys"},
    {"membar", "cta|gl|sys"},
    {"vec", "v2|v4"},
    {"prefetch", "L2::64B|L2::128B|L2::256B"},
    {"evict1", "L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate"},
    {"evict2", "L2::evict_normal|L2::evict_first|L2::evict_last|L2::evict_unchanged"},
    {"from", "from"},
    {"fromshared", "fromshared"},
    {"asyncspace", "global|shared::cta|shared::cluster"},
    {"tensorred", "add|min|max|inc|dec|and|or|xor"},
    {"replace64", "global_address"},
    {"replace32", "rank"},
    {"replace32ord", "box_dim|global_dim|element_stride"},
    {"replace64ord", "global_stride"},
    {"replaceimm", "elemtype|interleave_layout|swizzle_mode|fill_mode"},
    {"majora", "arow|acol"},
    {"majorb", "brow|bcol"},
    {"row", "arow"},
    {"col", "bcol"},
};

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    size_t end = text.find(separator);
    if (end != 0 && !text.empty()) {
      parts.emplace_back(text.substr(0, end));
    }
    if (end == std::string_view::npos) {
      return parts;
    }
    text.remove_prefix(end + 1);
  }
}

/// Compiles the table; lives as long as the process.
class Compiler {
public:
  Compiler() {
    for (const Word &word : words) {
      byAlias.emplace(word.alias, &word);
    }
    for (FormList list : {arithmeticForms(), bitForms(), memoryForms(), copyForms(), controlForms(), matrixForms()}) {
      for (size_t i = 0; i < list.count; ++i) {
        addForm(list.forms[i]);
      }
    }
  }

  std::vector<CompiledForm> all;
  std::unordered_map<std::string, std::vector<CompiledForm>> byRoot;

private:
  void addForm(const Form &form) {
    CompiledForm out;
    out.form = &form;
    std::vector<std::string> parts = split(form.mnemonic, ' ');
    for (size_t i = 1; i < parts.size(); ++i) {
      out.positions.push_back(position(parts[i]));
    }
    for (const std::string &operand : split(form.operands, ' ')) {
      size_t bar = operand.find('|');
      out.slots.push_back(slot(operand.substr(0, bar)));
      if (bar != std::string::npos) {
        out.slots.push_back(slot(operand.substr(bar + 1)));
        out.slots.back().paired = true;
      }
    }
    byRoot[parts[0]].push_back(out);
    all.push_back(std::move(out));
  }

  Position position(std::string text) {
    Position out;
    if (text.compare(0, 2, "T=") == 0) {
      for (const std::string &name : split(text.substr(2), ',')) {
        out.types.push_back(typeNamed(name));
      }
      return out;
    }
    if (text.back() == '?') {
      out.optional = true;
      text.pop_back();
    }
    if (text.front() == '<') {
      std::string name = text.substr(1, text.size() - 2);
      if (name.compare(0, 3, "m64") == 0) {
        addWgmmaShapes(name, out);
        return out;
      }
      for (auto [group, list] : groups) {
        if (name == group) {
          text = list;
        }
      }
    }
    for (const std::string &alias : split(text, '|')) {
      out.words.push_back(wordFor(alias));
    }
    return out;
  }

  /// "m64k16": m64n8k16, m64n16k16 ... m64n256k16; with an `i` at the end the sizes of the integer forms.
  void addWgmmaShapes(const std::string &name, Position &out) {
    bool integer = name.back() == 'i';
    std::string k = name.substr(3, name.size() - 3 - (integer ? 1 : 0));
    for (unsigned n = 8; n <= 256; n += 8) {
      if (!integer || n <= 32 || n % 16 == 0) {
        out.words.push_back(wordFor("m64n" + std::to_string(n) + k));
      }
    }
  }

  const Word *wordFor(const std::string &alias) {
    auto found = byAlias.find(alias);
    if (found != byAlias.end()) {
      return found->second;
    }
    // A shape: m, n and perhaps k.
    unsigned m = 0, n = 0, k = 0;
    size_t at = 1;
    auto number = [&](unsigned &out) {
      while (at < alias.size() && alias[at] >= '0' && alias[at] <= '9') {
        out = out * 10 + static_cast<unsigned>(alias[at++] - '0');
      }
      ++at;
    };
    number(m);
    number(n);
    number(k);
    texts.push_back(alias);
    made.push_back(Word{texts.back().c_str(), texts.back().c_str(), Field::ShapeIs, m << 20 | n << 10 | k});
    byAlias.emplace(texts.back(), &made.back());
    return &made.back();
  }

  static Slot slot(std::string text) {
    Slot out;
    auto drop = [&](char c) {
      if (!text.empty() && text.back() == c) {
        text.pop_back();
        return true;
      }
      return false;
    };
    out.optional = drop('?');
    out.sink = drop('~');
    if (text == "pol") {
      out.kind = Slot::Kind::Policy;
      out.type = Type::B64;
      return out;
    }
    size_t colon = text.find(':');
    if (colon != std::string::npos) {
      out.type = typeNamed(text.substr(colon + 1));
      out.relaxed = text.substr(colon + 1) == "addr";
      text.resize(colon);
    }
    switch (text[0]) {
    case 'd':
      out.kind = Slot::Kind::Destination;
      break;
    case 's':
      out.kind = Slot::Kind::Source;
      break;
    case 'r':
      out.kind = Slot::Kind::RegisterOnly;
      break;
    case 'i':
      out.kind = Slot::Kind::ImmediateOnly;
      break;
    case 'P':
      out.kind = Slot::Kind::PredicateDestination;
      break;
    case 'p':
      out.kind = Slot::Kind::PredicateSource;
      break;
    case 'm':
      out.kind = Slot::Kind::Address;
      break;
    case 't':
      out.kind = Slot::Kind::Tensor;
      break;
    case 'L':
      out.kind = Slot::Kind::Label;
      break;
    case 'l':
      out.kind = Slot::Kind::Targets;
      break;
    case 'f':
      out.kind = Slot::Kind::Fragment;
      out.fragment = text[1];
      return out;
    case '_': // remote arrivals give no state back: `_` only
      out.kind = Slot::Kind::Destination;
      out.sink = true;
      out.count = 1;
      return out;
    }
    for (size_t i = 1; i < text.size(); ++i) {
      char c = text[i];
      out.typeIndex = c >= '1' && c <= '3' ? static_cast<uint8_t>(c - '0') : out.typeIndex;
      out.wide |= c == 'w';
      out.relaxed |= c == '>';
      out.sink |= c == '~';
      out.shape = c == 'V'   ? Slot::Shape::ByVector
                  : c == 'X' ? Slot::Shape::ByMatrices
                  : c == 'K' ? Slot::Shape::Packed
                  : c == '*' ? Slot::Shape::Any
                             : out.shape;
    }
    return out;
  }

  std::unordered_map<std::string, const Word *> byAlias;
  std::deque<std::string> texts;
  std::deque<Word> made;
};

const Compiler &compiler() {
  static const Compiler *const instance = new Compiler();
  return *instance;
}

void apply(const Word &word, Modifiers &mods) {
  switch (word.field) {
  case Field::Nothing:
    break;
  case Field::Flag:
    mods.*word.flag = true;
    break;
  case Field::SpaceIs:
    mods.space = static_cast<Space>(word.value);
    if (word.flag) {
      mods.*word.flag = true;
    }
    break;
  case Field::SourceIs:
    mods.source = static_cast<Space>(word.value);
    break;
  case Field::SemIs:
    if (mods.sem != Sem::Mmio) { // .mmio.relaxed
      mods.sem = static_cast<Sem>(word.value);
    }
    break;
  case Field::ScopeIs:
    mods.scope = static_cast<Scope>(word.value);
    break;
  case Field::CacheIs:
    mods.cache = static_cast<Cache>(word.value);
    break;
  case Field::RoundIs:
    mods.round = static_cast<Round>(word.value);
    break;
  case Field::HalfIs:
    mods.half = static_cast<Half>(word.value);
    break;
  case Field::CmpIs:
    mods.cmp = static_cast<Cmp>(word.value);
    break;
  case Field::BoolIs:
    mods.boolOp = static_cast<BoolOp>(word.value);
    break;
  case Field::ReduceIs:
    mods.reduce = static_cast<Reduce>(word.value);
    break;
  case Field::ModeIs:
    mods.mode = static_cast<Mode>(word.value);
    break;
  case Field::CompletionIs:
    mods.completion = static_cast<Completion>(word.value);
    break;
  case Field::MajorAIs:
    mods.majorA = static_cast<Major>(word.value);
    break;
  case Field::MajorBIs:
    mods.majorB = static_cast<Major>(word.value);
    break;
  case Field::VectorIs:
    mods.vector = static_cast<uint8_t>(word.value);
    break;
  case Field::DimsIs:
    mods.dims = static_cast<uint8_t>(word.value);
    break;
  case Field::ShapeIs:
    mods.m = static_cast<uint16_t>(word.value >> 20);
    mods.n = word.value >> 10 & 1023;
    mods.k = word.value & 1023;
    break;
  case Field::PrefetchIs:
    mods.prefetchBytes = static_cast<uint16_t>(word.value);
    break;
  }
}

} // namespace

const std::vector<CompiledForm> *formsOf(std::string_view root) {
  auto found = compiler().byRoot.find(std::string(root));
  return found == compiler().byRoot.end() ? nullptr : &found->second;
}

const std::vector<CompiledForm> &allForms() { return compiler().all; }

const char *textOf(const Word &word) { return word.text; }

Type typeNamed(std::string_view name) {
  for (unsigned i = 1; i <= static_cast<unsigned>(Type::SurfRef); ++i) {
    if (name == nameOf(static_cast<Type>(i))) {
      return static_cast<Type>(i);
    }
  }
  return Type::None;
}

bool matchMnemonic(const CompiledForm &form, const std::vector<std::string_view> &given, Instruction &out,
                   size_t &misfit) {
  constexpr size_t maxPositions = 24;
  const void *filled[maxPositions] = {};
  Type types[maxPositions] = {};
  if (form.positions.size() > maxPositions) {
    misfit = 0;
    return false;
  }
  for (size_t w = 0; w < given.size(); ++w) {
    bool placed = false;
    Type type = Type::None;
    for (size_t p = 0; p < form.positions.size() && !placed; ++p) {
      const Position &position = form.positions[p];
      if (filled[p]) {
        continue;
      }
      if (!position.types.empty()) {
        type = type == Type::None ? typeNamed(given[w]) : type;
        bool fits = false;
        for (Type candidate : position.types) {
          fits |= candidate == type && type != Type::None;
        }
        if (fits) {
          filled[p] = &position;
          types[p] = type;
          placed = true;
        } else if (type != Type::None) {
          break; // types keep their order
        }
        continue;
      }
      for (const Word *word : position.words) {
        if (given[w] == word->text) {
          filled[p] = word;
          placed = true;
          break;
        }
      }
    }
    if (!placed) {
      misfit = w;
      return false;
    }
  }
  out = Instruction();
  out.op = form.form->op;
  size_t typeCount = 0;
  for (size_t p = 0; p < form.positions.size(); ++p) {
    const Position &position = form.positions[p];
    if (!filled[p]) {
      if (position.optional) {
        continue;
      }
      misfit = given.size();
      return false;
    }
    if (!position.types.empty()) {
      out.types[typeCount++] = types[p];
    } else {
      apply(*static_cast<const Word *>(filled[p]), out.mods);
    }
  }
  return true;
}

FragmentShape fragmentShape(const Instruction &instruction, char fragment) {
  const Modifiers &mods = instruction.mods;
  const Type *types = instruction.types;
  uint32_t m = mods.m, n = mods.n, k = mods.k;
  if (fragment == 'l') { // wmma.load, wmma.store: the mode says which
    fragment = mods.mode == Mode::FragmentA ? 'a' : mods.mode == Mode::FragmentB ? 'b' : 'c';
    Instruction whole = instruction;
    whole.op = Opcode::WmmaMma;
    for (Type &type : whole.types) {
      type = types[0];
    }
    return fragmentShape(whole, fragment);
  }
  bool accumulator = fragment == 'd' || fragment == 'c';
  Type type = types[fragment == 'd' ? 0 : fragment == 'a' ? 1 : fragment == 'b' ? 2 : 3];
  if (instruction.op == Opcode::WmmaMma) {
    if (types[2] == Type::None) { // f16: the mnemonic names d and c only
      type = fragment == 'd' ? types[0] : fragment == 'c' ? types[1] : Type::F16;
    }
    if (type == Type::F16) {
      return {accumulator ? 4u : 8u, Type::F16x2};
    }
    if (type == Type::TF32) {
      return {4, Type::B32};
    }
  }
  if (instruction.op == Opcode::Mma && k == 4 && m == 8 && types[1] == Type::F16) {
    return accumulator ? (type == Type::F32 ? FragmentShape{8, Type::F32} : FragmentShape{4, Type::F16x2})
                       : FragmentShape{2, Type::F16x2};
  }
  if (instruction.op == Opcode::WgmmaMmaAsync) {
    if (fragment == 'a') {
      return {4, Type::B32};
    }
    m = 16; // 64 rows over four warps
  }
  uint32_t elements = (accumulator ? m * n : fragment == 'a' ? m * k : k * n) / 32;
  switch (type) {
  case Type::F32:
  case Type::S32:
  case Type::F64:
    return {elements, type == Type::S32 ? Type::B32 : type};
  case Type::F16:
    return {elements / 2, Type::F16x2};
  default:
    return {elements * bitsOf(type) / 32, Type::B32};
  }
}

std::string supportTable() {
  std::string out =
      "# PTX instructions that the emulator parses\n\n"
      "Made by `ptx-check --support > docs/ptx-instructions.md` from the table that drives the parser; a test "
      "compares the two.\n"
      "In a mnemonic `a|b` is one of, `x?` may be missing, `T` a type from the second column, in order. Operands: `d`\n"
      "destination, `s` source (register or constant), `r` register, `i` constant, `P` and `p` predicate, `m` address, "
      "`t`\n"
      "tensor map and coordinates, `f` fragment, `pol` cache policy; the whole notation is at the top of\n"
      "`runtime/emulator/ptx/Table.h`. Modifiers may stand in any order, as ptxas takes them. `call` has its own "
      "syntax.\n\n"
      "| instruction | types | operands | .version | .target |\n|---|---|---|---|---|\n";
  for (const CompiledForm &form : allForms()) {
    std::string_view whole = form.form->mnemonic;
    std::string mnemonic(whole.substr(0, whole.find(' '))), types;
    for (const Position &position : form.positions) {
      mnemonic += ".";
      if (!position.types.empty()) {
        mnemonic += "T";
        types += types.empty() ? "" : "; ";
        for (Type type : position.types) {
          types += std::string(type == position.types.front() ? "" : " ") + nameOf(type);
        }
        continue;
      }
      size_t count = position.words.size();
      for (size_t i = 0; i < count; ++i) {
        bool skipped = count > 18 && i > 0 && i + 1 < count; // the shapes of wgmma
        mnemonic += skipped ? (i == 1 ? "\\|..." : "") : (i ? "\\|" : "") + std::string(textOf(*position.words[i]));
      }
      mnemonic += position.optional ? "?" : "";
    }
    std::string operands = form.slots.empty() ? "none" : "";
    for (char c : std::string_view(form.form->operands)) {
      operands += c == '|' ? std::string("\\|") : std::string(1, c);
    }
    out += "| `" + mnemonic + "` | " + (types.empty() ? "-" : types) + " | `" + operands + "` | ";
    out += form.form->ptx ? std::to_string(form.form->ptx / 10) + "." + std::to_string(form.form->ptx % 10) : "any";
    unsigned sm = form.form->sm & (archSpecific - 1);
    out += sm ? " | sm_" + std::to_string(sm) + (form.form->sm & archSpecific ? "a" : "") + " |\n" : " | any |\n";
  }
  return out;
}

} // namespace moert::emulator::ptx
