//===- TempFolder.h - A folder for the files of one test --------*- C++ -*-===//
//
// Made under the system's folder for temporary files and removed with all that
// is in it at the end of its life.
//
//===----------------------------------------------------------------------===//
#ifndef MOE_TEST_RUNTIME_READERS_TEMPFOLDER_H
#define MOE_TEST_RUNTIME_READERS_TEMPFOLDER_H

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

/// See above.
class TempFolder {
public:
  TempFolder() {
    std::string pattern = std::filesystem::temp_directory_path() / "moe-test-XXXXXX";
    root = ::mkdtemp(pattern.data());
  }
  ~TempFolder() { std::filesystem::remove_all(root); }
  TempFolder(const TempFolder &) = delete;
  TempFolder &operator=(const TempFolder &) = delete;

  const std::string &path() const { return root; }
  std::string path(const std::string &name) const { return root + "/" + name; }
  /// Writes a file and returns its path.
  std::string write(const std::string &name, const std::string &bytes) const {
    std::ofstream(path(name), std::ios::binary) << bytes;
    return path(name);
  }

private:
  std::string root;
};

#endif // MOE_TEST_RUNTIME_READERS_TEMPFOLDER_H
