// SPDX-License-Identifier: MIT
/// Shared by the parts of simxen_guest.
#pragma once

#include <memory>
#include <string>

#include "tests/simxen/guest.h"
#include "tests/simxen/shared_state.h"

namespace simxen {

struct Machine::Impl {
  std::unique_ptr<SharedState> state;
};

/// Ends the test program, with errno and a sentence.
[[noreturn]] void give_up(const std::string& reason);

}  // namespace simxen
