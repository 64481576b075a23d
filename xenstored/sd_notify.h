// SPDX-License-Identifier: MIT
/// One datagram to the service manager.
#pragma once

namespace xenstored {

/// Sends `state` ("READY=1", "STOPPING=1\nSTATUS=...") to $NOTIFY_SOCKET, a path
/// or an abstract name (@...). Does nothing without the variable. Waits at most
/// a second for a full queue; allocates nothing. Returns whether it was sent.
bool sd_notify(const char* state);

}  // namespace xenstored
