// SPDX-License-Identifier: MIT
#include "tools/step/symbols.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace step {
namespace {

std::string output_of(const std::string& command) {
  std::string all;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return all;
  std::array<char, 4096> some{};
  while (const std::size_t count = fread(some.data(), 1, some.size(), pipe)) {
    all.append(some.data(), count);
  }
  pclose(pipe);
  return all;
}

struct Symbol {
  std::uint64_t offset = 0;
  std::string name;
};

/// The functions of a file, as `nm` with these options tells them.
std::vector<Symbol> functions(const std::string& path, const std::string& options) {
  std::vector<Symbol> all;
  std::istringstream lines(
      output_of("nm --defined-only " + options + " '" + path + "' 2>/dev/null"));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    Symbol symbol;
    char kind = 0;
    if (!(words >> std::hex >> symbol.offset >> kind >> std::ws)) continue;
    if (std::string_view("TtWwi").find(kind) == std::string_view::npos) continue;
    std::getline(words, symbol.name);
    all.push_back(std::move(symbol));
  }
  return all;
}

std::string name_of(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

std::string hex(std::uint64_t number) {
  std::ostringstream text;
  text << "0x" << std::hex << number;
  return text.str();
}

}  // namespace

Symbols::Symbols(pid_t pid) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    char dash = 0;
    std::string skipped;
    std::string path;
    words >> std::hex >> begin >> dash >> end >> skipped >> skipped >> skipped >> skipped >> path;
    if (!path.starts_with('/')) continue;
    if (!files_.empty() && files_.back().path == path) {
      files_.back().range.end = end;
    } else {
      files_.push_back({{begin, end}, path});
    }
  }
}

std::optional<std::uint64_t> Symbols::find(std::string_view file, std::string_view name) const {
  for (const File& mapped : files_) {
    if (!name_of(mapped.path).starts_with(file)) continue;
    for (const char* options : {"-D", "-C"}) {
      for (const Symbol& symbol : functions(mapped.path, options)) {
        if (symbol.name.substr(0, symbol.name.find_first_of("@[(")) != name) continue;
        return mapped.range.begin + symbol.offset;
      }
    }
  }
  return {};
}

std::vector<AddressRange> Symbols::all_but(const std::vector<std::string>& files) const {
  std::vector<AddressRange> ranges;
  for (const File& mapped : files_) {
    const std::string name = name_of(mapped.path);
    const bool is_named =
        std::ranges::any_of(files, [&](const std::string& file) { return name.starts_with(file); });
    if (!is_named) ranges.push_back(mapped.range);
  }
  return ranges;
}

std::string Symbols::describe(std::uint64_t address) const {
  for (const File& file : files_) {
    if (address < file.range.begin || address >= file.range.end) continue;
    const std::uint64_t offset = address - file.range.begin;
    Symbol nearest;
    for (const char* options : {"-C", "-DC"}) {
      for (Symbol& symbol : functions(file.path, options)) {
        if (symbol.offset <= offset && symbol.offset >= nearest.offset) nearest = symbol;
      }
    }
    std::string text =
        nearest.name + "+" + hex(offset - nearest.offset) + " (" + name_of(file.path) + ")";
    std::string line = output_of("addr2line -se '" + file.path + "' " + hex(offset));
    while (line.ends_with('\n')) line.pop_back();
    return line.empty() || line.starts_with('?') ? text : text + ", " + line;
  }
  return hex(address);
}

}  // namespace step
