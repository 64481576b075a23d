// SPDX-License-Identifier: MIT
/// A whole session from arbitrary bytes: the input is what a client sends on a
/// real socket to a real daemon in this process, with its journal on tmpfs. After
/// each input the daemon's own checks must find nothing. (Guests: ring_session_fuzz.cc.)
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "journal/journal.h"
#include "xenstored/daemon.h"
#include "xenstored/log.h"

namespace {

using xenstored::Header;
using xenstored::Op;
using xenstored::UniqueFd;

/// One daemon for the whole run, so that inputs meet what earlier ones left.
struct World {
  std::string dir = "/dev/shm/xs.fuzz." + std::to_string(getpid());
  xenstored::Options options;
  std::unique_ptr<journal::Journal> journal;
  std::unique_ptr<xenstored::PoisonGuard> poison;
  xenstored::Trace trace;
  std::unique_ptr<xenstored::History> history;
  std::unique_ptr<xenstored::Daemon> daemon;

  World() {
    std::filesystem::create_directories(dir);
    xenstored::log::open("/dev/null");
    xenstored::log::ready();
    options.area = dir;
    journal::Options area;
    area.area = dir;
    std::vector<std::string> notes;
    auto opened = journal::Journal::open(area, notes);
    if (!opened.has_value()) std::abort();
    journal = std::move(opened.value());
    poison = std::make_unique<xenstored::PoisonGuard>(dir);
    history =
        std::make_unique<xenstored::History>(options, *journal, *poison, std::filesystem::path());
    daemon = std::make_unique<xenstored::Daemon>(options, *journal, *history, *poison, trace,
                                                 nullptr, nullptr);
    if (!daemon->recover().has_value()) std::abort();
  }
  ~World() {
    daemon.reset();
    std::filesystem::remove_all(dir);
  }
};

std::string frame(Op op, std::string_view payload) {
  const Header header{static_cast<std::uint32_t>(op), 0, 0,
                      static_cast<std::uint32_t>(payload.size())};
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + std::string(payload);
}

/// Two ends of a stream, ours without waiting.
std::pair<UniqueFd, UniqueFd> stream() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0) std::abort();
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

/// Sends, gives the daemon its turns, and takes what comes back.
std::string exchange(World& world, int client, std::string_view bytes) {
  std::string answers;
  std::string buffer(65536, '\0');
  for (int turn = 0; turn < 8; ++turn) {
    const std::size_t piece = std::min<std::size_t>(bytes.size(), 16384);
    if (piece != 0 && send(client, bytes.data(), piece, MSG_NOSIGNAL) > 0) {
      bytes.remove_prefix(piece);
    } else {
      turn += 2;
    }
    world.daemon->turn(false);
    const ssize_t got = recv(client, buffer.data(), buffer.size(), 0);
    if (got > 0) answers.append(buffer.data(), static_cast<std::size_t>(got));
  }
  return answers;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World world;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  auto [server, client] = stream();
  // These name files to write; a fuzzer must not choose them.
  if (input.find("logfile") != input.npos || input.find("memreport") != input.npos) return 0;
  auto [toolstack_server, toolstack] = stream();
  world.daemon->accept_client(std::move(toolstack_server));
  world.daemon->accept_client(std::move(server));
  exchange(world, client.get(), input);
  client.reset();
  const std::string answer =
      exchange(world, toolstack.get(), frame(Op::kControl, std::string_view("check\0", 6)));
  if (answer.find("OK") == std::string::npos) std::abort();
  return 0;
}
