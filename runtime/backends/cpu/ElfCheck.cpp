// Bounds-checked reading of a 64-bit ELF shared object; see ElfCheck.h.
#include "runtime/backends/cpu/ElfCheck.h"

#include <cstring>
#include <elf.h>
#include <set>

namespace moert::cpu {
namespace {

#if defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
#else
#error "no kernels are made for this architecture"
#endif

/// A range of the file.
struct Span {
  uint64_t offset = 0, size = 0;
};

class ElfChecker {
public:
  ElfChecker(const std::string &path, const void *blob, size_t size)
      : path(path), bytes(static_cast<const uint8_t *>(blob)), size(size) {}

  Status run(const std::vector<std::string> &kernels);

private:
  template <typename... Parts> Status bad(const Parts &...parts) const {
    return error(Code::Corrupt, path, ": not a kernel library: ", parts..., "; compile the package again");
  }

  /// Copies a T out of the file: nothing in it need be aligned.
  template <typename T> bool get(uint64_t offset, T &out) const {
    if (offset > size || sizeof(T) > size - offset) {
      return false;
    }
    memcpy(&out, bytes + offset, sizeof(T));
    return true;
  }

  /// The file range that `count` bytes at virtual address `address` are loaded from.
  bool locate(uint64_t address, uint64_t count, uint64_t &offset) const;
  Status readSegments(const Elf64_Ehdr &header);
  Status readDynamic();
  Status readRelocations() const;
  Status readSymbols(const std::vector<std::string> &kernels) const;
  bool countSymbols(uint64_t &count) const;

  const std::string &path;
  const uint8_t *bytes;
  const uint64_t size;
  std::vector<Elf64_Phdr> loads;
  Span dynamic, relocations, jumps;
  uint64_t symbols = 0, strings = 0, stringsSize = 0, hash = 0, gnuHash = 0;
};

bool ElfChecker::locate(uint64_t address, uint64_t count, uint64_t &offset) const {
  for (const Elf64_Phdr &load : loads) {
    if (address >= load.p_vaddr && address - load.p_vaddr <= load.p_filesz &&
        count <= load.p_filesz - (address - load.p_vaddr)) {
      offset = load.p_offset + (address - load.p_vaddr);
      return true;
    }
  }
  return false;
}

Status ElfChecker::readSegments(const Elf64_Ehdr &header) {
  bool stackKnown = false;
  for (uint16_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    if (!get(header.e_phoff + uint64_t(i) * sizeof(segment), segment)) {
      return bad("program header ", i, " is outside its ", size, " bytes");
    }
    if (segment.p_type == PT_LOAD || segment.p_type == PT_DYNAMIC) {
      if (segment.p_offset > size || segment.p_filesz > size - segment.p_offset || segment.p_filesz > segment.p_memsz ||
          segment.p_memsz > (uint64_t(1) << 32) || segment.p_vaddr > (uint64_t(1) << 40)) {
        return bad("segment ", i, " (bytes ", segment.p_offset, " .. + ", segment.p_filesz, ") is outside its ", size,
                   " bytes");
      }
    }
    switch (segment.p_type) {
    case PT_LOAD:
      if ((segment.p_flags & PF_W) && (segment.p_flags & PF_X)) {
        return bad("segment ", i, " is writable and executable");
      }
      loads.push_back(segment);
      break;
    case PT_DYNAMIC:
      dynamic = {segment.p_offset, segment.p_filesz};
      break;
    case PT_TLS:
      return bad("it has thread-local storage");
    case PT_GNU_STACK:
      stackKnown = true;
      if (segment.p_flags & PF_X) {
        return bad("it wants an executable stack");
      }
      break;
    default:
      break;
    }
  }
  if (!stackKnown) {
    return bad("it does not say that its stack is not executable (PT_GNU_STACK)");
  }
  return dynamic.size ? Status() : bad("it has no dynamic section");
}

Status ElfChecker::readDynamic() {
  uint64_t initSize = 0;
  uint64_t relaAddress = 0, relaSize = 0, jumpAddress = 0, jumpSize = 0;
  bool ended = false;
  for (uint64_t at = 0; !ended && at + sizeof(Elf64_Dyn) <= dynamic.size; at += sizeof(Elf64_Dyn)) {
    Elf64_Dyn entry;
    if (!get(dynamic.offset + at, entry)) {
      return bad("its dynamic section is outside the file");
    }
    switch (entry.d_tag) {
    case DT_NULL:
      ended = true;
      break;
    case DT_NEEDED:
      return bad("it needs another library (DT_NEEDED)");
    case DT_INIT:
    case DT_FINI:
      return bad("it has a constructor or destructor (DT_INIT, DT_FINI)");
    case DT_INIT_ARRAYSZ:
    case DT_FINI_ARRAYSZ:
    case DT_PREINIT_ARRAYSZ:
      initSize += entry.d_un.d_val;
      break;
    case DT_TEXTREL:
      return bad("its code is relocated (DT_TEXTREL)");
    case DT_FLAGS:
      if (entry.d_un.d_val & DF_TEXTREL) {
        return bad("its code is relocated (DF_TEXTREL)");
      }
      break;
    case DT_FLAGS_1:
      if (entry.d_un.d_val & DF_1_NODELETE) {
        return bad("it cannot be unloaded (DF_1_NODELETE)");
      }
      break;
    case DT_FILTER:
    case DT_AUXILIARY:
    case DT_AUDIT:
    case DT_DEPAUDIT:
      return bad("it names another library");
    case DT_REL:
    case DT_RELR:
    case DT_RELRSZ:
      return bad("it has relocations of a kind that is not read (DT_REL, DT_RELR)");
    case DT_SYMTAB:
      symbols = entry.d_un.d_ptr;
      break;
    case DT_STRTAB:
      strings = entry.d_un.d_ptr;
      break;
    case DT_STRSZ:
      stringsSize = entry.d_un.d_val;
      break;
    case DT_HASH:
      hash = entry.d_un.d_ptr;
      break;
    case DT_GNU_HASH:
      gnuHash = entry.d_un.d_ptr;
      break;
    case DT_RELA:
      relaAddress = entry.d_un.d_ptr;
      break;
    case DT_RELASZ:
      relaSize = entry.d_un.d_val;
      break;
    case DT_JMPREL:
      jumpAddress = entry.d_un.d_ptr;
      break;
    case DT_PLTRELSZ:
      jumpSize = entry.d_un.d_val;
      break;
    default:
      break;
    }
  }
  if (!ended) {
    return bad("its dynamic section has no end");
  }
  if (initSize) {
    return bad("it has constructors or destructors (", initSize, " bytes of INIT_ARRAY and FINI_ARRAY)");
  }
  relocations.size = relaSize, jumps.size = jumpSize;
  if ((relaSize && !locate(relaAddress, relaSize, relocations.offset)) ||
      (jumpSize && !locate(jumpAddress, jumpSize, jumps.offset))) {
    return bad("its relocations are outside the file");
  }
  return {};
}

Status ElfChecker::readRelocations() const {
  for (const Span &span : {relocations, jumps}) {
    for (uint64_t at = 0; at + sizeof(Elf64_Rela) <= span.size; at += sizeof(Elf64_Rela)) {
      Elf64_Rela relocation;
      if (!get(span.offset + at, relocation)) {
        return bad("its relocations are outside the file");
      }
      uint32_t type = uint32_t(ELF64_R_TYPE(relocation.r_info));
#if defined(__x86_64__)
      bool known = type == R_X86_64_NONE || type == R_X86_64_64 || type == R_X86_64_GLOB_DAT ||
                   type == R_X86_64_JUMP_SLOT || type == R_X86_64_RELATIVE;
#else
      bool known = type == R_AARCH64_NONE || type == R_AARCH64_ABS64 || type == R_AARCH64_GLOB_DAT ||
                   type == R_AARCH64_JUMP_SLOT || type == R_AARCH64_RELATIVE;
#endif
      if (!known) {
        return bad("it has a relocation of type ", type, ", which may run code or reach outside");
      }
      bool inside = false;
      for (const Elf64_Phdr &load : loads) {
        inside |= (load.p_flags & PF_W) && load.p_memsz >= 8 && relocation.r_offset >= load.p_vaddr &&
                  relocation.r_offset - load.p_vaddr <= load.p_memsz - 8;
      }
      if (!inside) {
        return bad("a relocation writes address ", relocation.r_offset, ", which is not in its data");
      }
    }
  }
  return {};
}

/// The dynamic symbol table has no size of its own: the hash tables know.
bool ElfChecker::countSymbols(uint64_t &count) const {
  uint64_t at;
  if (hash && locate(hash, 8, at)) {
    uint32_t chains;
    count = get(at + 4, chains) ? chains : 0;
    return true;
  }
  if (!gnuHash || !locate(gnuHash, 16, at)) {
    return false;
  }
  uint32_t buckets, first, bloomWords;
  if (!get(at, buckets) || !get(at + 4, first) || !get(at + 8, bloomWords)) {
    return false;
  }
  uint64_t bucketsAt = at + 16 + uint64_t(bloomWords) * 8, chainsAt = bucketsAt + uint64_t(buckets) * 4;
  uint64_t last = 0;
  for (uint64_t i = 0; i < buckets; ++i) {
    uint32_t bucket;
    if (!get(bucketsAt + i * 4, bucket)) {
      return false;
    }
    last = bucket > last ? bucket : last;
  }
  count = first;
  if (last >= first) {
    for (uint32_t entry = 0;; ++last) {
      if (!get(chainsAt + (last - first) * 4, entry)) {
        return false;
      }
      if (entry & 1) {
        break;
      }
    }
    count = last + 1;
  }
  return true;
}

Status ElfChecker::readSymbols(const std::vector<std::string> &kernels) const {
  uint64_t count = 0, stringsAt = 0;
  if (!symbols || !countSymbols(count) || !stringsSize || !locate(strings, stringsSize, stringsAt)) {
    return bad("its symbol table is outside the file");
  }
  std::set<std::string> functions, objects;
  for (uint64_t i = 1; i < count; ++i) {
    uint64_t at;
    Elf64_Sym symbol;
    if (!locate(symbols + i * sizeof(symbol), sizeof(symbol), at) || !get(at, symbol) ||
        symbol.st_name >= stringsSize) {
      return bad("symbol ", i, " is outside the file");
    }
    const char *text = reinterpret_cast<const char *>(bytes + stringsAt + symbol.st_name);
    std::string name(text, strnlen(text, stringsSize - symbol.st_name));
    if (symbol.st_shndx == SHN_UNDEF) {
      return bad("symbol '", name, "' is undefined: kernels call nothing outside themselves");
    }
    unsigned type = ELF64_ST_TYPE(symbol.st_info);
    if (type == STT_GNU_IFUNC || ELF64_ST_BIND(symbol.st_info) == STB_GNU_UNIQUE) {
      return bad("symbol '", name, "' is resolved by running code or can never be unloaded");
    }
    if (type == STT_FUNC) {
      functions.insert(std::move(name));
    } else if (type == STT_OBJECT && symbol.st_size >= 4) {
      objects.insert(std::move(name));
    }
  }
  if (!objects.count("moert_kernel_abi")) {
    return bad("symbol 'moert_kernel_abi' (kernel ABI version) is missing");
  }
  for (const std::string &kernel : kernels) {
    if (!functions.count(kernel)) {
      return bad("kernel '", kernel, "' is missing");
    }
  }
  return {};
}

Status ElfChecker::run(const std::vector<std::string> &kernels) {
  Elf64_Ehdr header;
  if (!get(0, header) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
    return bad("it is no ELF file");
  }
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_type != ET_DYN) {
    return bad("it is not a 64-bit little-endian shared object (class ", int(header.e_ident[EI_CLASS]), ", data ",
               int(header.e_ident[EI_DATA]), ", type ", header.e_type, ")");
  }
  if (header.e_machine != kMachine) {
    return error(Code::Unsupported, path, ": is for machine ", header.e_machine, ", this one is ", kMachine,
                 "; compile the package for this machine");
  }
  if (header.e_phentsize != sizeof(Elf64_Phdr)) {
    return bad("its program headers have ", header.e_phentsize, " bytes, must have ", sizeof(Elf64_Phdr));
  }
  MOERT_TRY(readSegments(header));
  MOERT_TRY(readDynamic());
  MOERT_TRY(readRelocations());
  return readSymbols(kernels);
}

} // namespace

Status checkKernelElf(const std::string &path, const void *blob, size_t size, const std::vector<std::string> &kernels) {
  return ElfChecker(path, blob, size).run(kernels);
}

} // namespace moert::cpu
