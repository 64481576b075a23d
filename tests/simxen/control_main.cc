// SPDX-License-Identifier: MIT
/// simxen: makes, shows and ends the domains of a machine.
#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/simxen/guest.h"

namespace {

using Arguments = std::vector<std::string>;

[[noreturn]] void usage() {
  std::fputs(
      "simxen DIR init\n"
      "simxen DIR create DOMID [UUID]     prints the ring's frame number and port\n"
      "simxen DIR destroy DOMID...\n"
      "simxen DIR shutdown DOMID [REASON] 0 poweroff, 1 reboot, 2 suspend, 3 crash\n"
      "simxen DIR resume DOMID\n"
      "simxen DIR dying DOMID\n"
      "simxen DIR fail-map DOMID on|off\n"
      "simxen DIR list                    domids, and the state of their ports\n",
      stderr);
  std::exit(2);
}

std::uint16_t domid_of(const std::string& text) {
  char* end = nullptr;
  const unsigned long number = std::strtoul(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || number > 0xffff) usage();
  return static_cast<std::uint16_t>(number);
}

simxen::Uuid uuid_of(std::string text) {
  std::erase(text, '-');
  simxen::Uuid uuid{};
  if (text.size() != 2 * uuid.size() || !std::all_of(text.begin(), text.end(), [](char c) {
        return std::isxdigit(static_cast<unsigned char>(c)) != 0;
      })) {
    usage();
  }
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    uuid[i] = static_cast<std::uint8_t>(std::stoul(text.substr(2 * i, 2), nullptr, 16));
  }
  return uuid;
}

/// Any uuid will do that no other domain has.
simxen::Uuid random_uuid() {
  simxen::Uuid uuid{};
  std::FILE* random = std::fopen("/dev/urandom", "r");
  if (random == nullptr || std::fread(uuid.data(), 1, uuid.size(), random) != uuid.size()) {
    std::abort();
  }
  std::fclose(random);
  return uuid;
}

const char* name_of(simxen::PortState state) {
  switch (state) {
    case simxen::PortState::kFree:
      return "free";
    case simxen::PortState::kUnbound:
      return "unbound";
    case simxen::PortState::kInterdomain:
      return "interdomain";
  }
  return "?";
}

void create(simxen::Machine& machine, const Arguments& rest) {
  const auto made =
      machine.create(domid_of(rest.at(0)), rest.size() > 1 ? uuid_of(rest[1]) : random_uuid());
  std::printf("%llu %u\n", static_cast<unsigned long long>(made.gfn), made.port);
}

void destroy(simxen::Machine& machine, const Arguments& rest) {
  std::vector<std::uint16_t> domids;
  std::transform(rest.begin(), rest.end(), std::back_inserter(domids), domid_of);
  machine.destroy(domids);
}

void list(const simxen::Machine& machine) {
  for (unsigned domid = 0; domid < 0x7ff0; ++domid) {
    const auto id = static_cast<std::uint16_t>(domid);
    if (machine.exists(id)) std::printf("%u %s\n", domid, name_of(machine.port_state(id)));
  }
}

void run(simxen::Machine machine, const std::string& command, const Arguments& rest) {
  if (command == "list" && rest.empty()) return list(machine);
  if (rest.empty()) usage();
  if (command == "create" && rest.size() <= 2) return create(machine, rest);
  if (command == "destroy") return destroy(machine, rest);
  const std::uint16_t domid = domid_of(rest[0]);
  if (command == "shutdown" && rest.size() <= 2) {
    return machine.shut_down(domid, rest.size() > 1 ? std::atoi(rest[1].c_str()) : 0);
  }
  if (command == "resume") return machine.resume(domid);
  if (command == "dying") return machine.start_dying(domid);
  if (command == "fail-map" && rest.size() == 2) return machine.fail_map(domid, rest[1] == "on");
  usage();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) usage();
  const std::string command = argv[2];
  if (command == "init") {
    simxen::Machine::make(argv[1]);
    return 0;
  }
  run(simxen::Machine(argv[1]), command, Arguments(argv + 3, argv + argc));
  return 0;
}
