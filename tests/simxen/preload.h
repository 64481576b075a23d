// SPDX-License-Identifier: MIT
/// What the parts of libsimxen.so have in common. Everything in that library is
/// hidden but the functions of Xen's libraries and of libc that it replaces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "tests/simxen/shared_state.h"

/// Goes before each function that takes the place of another library's.
#define SIMXEN_REPLACES extern "C" __attribute__((visibility("default")))

/// Xen's header leaves this to us: a handle is nothing but the machine.
struct xc_interface_core {
  simxen::SharedState& machine;
};

namespace simxen {

/// The machine that SIMXEN names. Null, errno: none, as on a host without Xen.
/// Stays valid until the process ends.
SharedState* current_machine();

/// If `fd` belongs to a handle on the event channels: what write() does to it, the
/// count of bytes taken. The bytes are the numbers of ports to unmask.
std::optional<long> write_to_events(int fd, const void* bytes, std::size_t count);

}  // namespace simxen
