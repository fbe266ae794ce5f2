//===- OutputPath.h - What a rename may replace -----------------*- C++ -*-===//
//
// Files are written under a temporary name and renamed (File.h, readers/OutputFile.h). Two names must not be replaced
// like that: a link, which should go on pointing where it points, and a device or pipe, which would become a file
// (`-o /dev/null` as root). Header only: both writers use it, and they are in libraries that do not know each other.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_CORE_OUTPUTPATH_H
#define MOERT_CORE_OUTPUTPATH_H

#include <cstdlib>
#include <string>
#include <sys/stat.h>

namespace moert {

/// Whether `path` exists and is neither a file nor a directory: it is written as it is.
inline bool isDevice(const std::string &path) {
  struct stat facts;
  return stat(path.c_str(), &facts) == 0 && !S_ISREG(facts.st_mode) && !S_ISDIR(facts.st_mode);
}

/// The file or directory at the end of the links if `path` is one, else `path` as it is.
inline std::string followLinks(const std::string &path) {
  struct stat facts;
  if (lstat(path.c_str(), &facts) != 0 || !S_ISLNK(facts.st_mode) || isDevice(path)) {
    return path;
  }
  char *end = realpath(path.c_str(), nullptr);
  std::string result = end ? end : path;
  free(end);
  return result;
}

} // namespace moert

#endif // MOERT_CORE_OUTPUTPATH_H
