// SPDX-License-Identifier: MIT
#include "xenstored/log.h"

#include <fmt/format.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <syslog.h>

#include <memory>
#include <mutex>
#include <vector>

namespace xenstored::log {
namespace {

constexpr const char* kPattern = "%Y-%m-%d %H:%M:%S.%e xenstored[%P] %l: %v";

spdlog::sink_ptr stderr_sink() {
  auto sink = std::make_shared<spdlog::sinks::stderr_sink_st>();
  sink->set_pattern(kPattern);
  return sink;
}

spdlog::sink_ptr file_sink(const std::string& path) {
  auto sink = std::make_shared<spdlog::sinks::basic_file_sink_st>(path);
  sink->set_pattern(kPattern);
  return sink;
}

spdlog::sink_ptr syslog_sink() {
  return std::make_shared<spdlog::sinks::syslog_sink_st>("xenstored", LOG_PID, LOG_DAEMON, false);
}

/// Lines are rare, so one lock for all is enough, and reopening stays simple.
struct Place {
  std::mutex mutex;
  std::string where = "stderr";
  bool is_ready = false;
  std::unique_ptr<spdlog::logger> logger;
};

Place& place() {
  static Place the_place;
  return the_place;
}

spdlog::sink_ptr chosen_sink(const std::string& where) {
  if (where == "stderr") return stderr_sink();
  if (where == "syslog") return syslog_sink();
  try {
    return file_sink(where);
  } catch (const spdlog::spdlog_ex& error) {
    fmt::print(stderr, "xenstored: {}; logging to stderr instead\n", error.what());
    return stderr_sink();
  }
}

/// With the lock held.
void build_logger(Place& p) {
  std::vector<spdlog::sink_ptr> sinks{chosen_sink(p.where)};
  if (!p.is_ready && p.where != "stderr") sinks.push_back(stderr_sink());
  p.logger = std::make_unique<spdlog::logger>("xenstored", sinks.begin(), sinks.end());
  p.logger->flush_on(spdlog::level::info);
}

void write(spdlog::level::level_enum level, std::string_view line) {
  Place& p = place();
  const std::lock_guard lock(p.mutex);
  if (!p.logger) build_logger(p);
  p.logger->log(level, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace

void open(const std::string& where) {
  Place& p = place();
  const std::lock_guard lock(p.mutex);
  p.where = where;
  build_logger(p);
}

void ready() {
  Place& p = place();
  const std::lock_guard lock(p.mutex);
  p.is_ready = true;
  build_logger(p);
}

void reopen() {
  Place& p = place();
  const std::lock_guard lock(p.mutex);
  build_logger(p);
}

void info(std::string_view line) { write(spdlog::level::info, line); }
void warn(std::string_view line) { write(spdlog::level::warn, line); }
void error(std::string_view line) { write(spdlog::level::err, line); }

std::string escaped(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (const char c : bytes) {
    if (c == '\n') {
      text += "\\n";
    } else if (c == '\\') {
      text += "\\\\";
    } else if (c >= ' ' && c <= '~') {
      text += c;
    } else {
      fmt::format_to(std::back_inserter(text), "\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return text;
}

}  // namespace xenstored::log
