// SPDX-License-Identifier: MIT
/// One datagram to the service manager.
#pragma once

namespace xenstored {

/// Sends `state` ("READY=1", "STOPPING=1\nSTATUS=...") to $NOTIFY_SOCKET, a path
/// or an abstract name (@...). Does nothing without the variable. Never waits and
/// allocates nothing. Returns whether it was sent.
bool sd_notify(const char* state);

}  // namespace xenstored
