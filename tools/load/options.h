// SPDX-License-Identifier: MIT
/// What the command line chose; README.md says what each scenario makes of it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace load {

struct Options {
  std::string socket;
  std::string scenario;
  std::string
      machine;  ///< the directory of a stand-in machine whose domains are the clients; may be empty
  std::string area;           ///< the server's persistent area, for bytes of tmpfs; may be empty
  double seconds = 2;         ///< length of a measurement, after the warm-up
  double warmup = 0.2;        ///< seconds
  std::uint64_t ops = 0;      ///< if not 0, measure that many operations instead of `seconds`
  unsigned clients = 0;       ///< 0: the scenario's own number
  unsigned inflight = 1;      ///< requests on their way at a time, a connection
  unsigned idle = 0;          ///< silent connections beside the measured ones
  unsigned watches = 0;       ///< unrelated watches held by other connections
  std::uint64_t nodes = 0;    ///< 0: the scenario's own number
  unsigned value_bytes = 10;  ///< at least 10, as a value carries a 10-digit number
  unsigned kills = 10;
  double pause = 0.2;  ///< seconds between an answer and the next kill
  pid_t pid = 0;       ///< the server's, if it cannot be found by the socket
  bool scattered = false;
  bool check = true;  ///< compare what the server holds in the end with what was written
};

}  // namespace load
