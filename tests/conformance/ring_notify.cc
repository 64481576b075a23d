// SPDX-License-Identifier: MIT
/// ring-notify DIR: sends a domain's event to the daemon for each domid on a line of
/// its input, and answers with an empty line. What is in the ring is others' work.
#include <cstdint>
#include <cstdio>
#include <iostream>

#include "tests/simxen/guest.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("ring-notify DIR\n", stderr);
    return 2;
  }
  simxen::Machine machine(argv[1]);
  simxen::GuestEvents events(machine);
  std::uint16_t domid = 0;
  while (std::cin >> domid) {
    if (machine.exists(domid)) simxen::Guest(machine, events, domid).notify();
    std::cout << std::endl;
  }
}
