"""How much each address may do: a burst, then so much a second; remembered of a bounded number of addresses."""

import ipaddress
import threading
import time
from collections import OrderedDict

# So many addresses are remembered, the last ones: an attacker who has more than these has them all the same.
MOST_ADDRESSES = 4096


def network_of(address: str) -> str:
    """Return the address that a caller is known by: of IPv6 the network, since one machine has all of that."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if parsed.version == 6:
        return str(parsed.ipv4_mapped or ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)


class Allowance:
    """Tokens in a bucket for each address.

    Parameters
    ----------
    burst : float
        So much may be done at once.
    a_second : float
        So much is allowed again each second.
    """

    def __init__(self, burst: float, a_second: float) -> None:
        self._burst = burst
        self._a_second = a_second
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, address: str) -> bool:
        """Take one from what an address has left; False if that is nothing."""
        with self._lock:
            left = self._now(address)
            self._keep(address, max(0.0, left - 1))
            return left >= 1

    def is_spent(self, address: str) -> bool:
        """Return whether an address has nothing left."""
        with self._lock:
            return self._now(address) < 1

    def _now(self, address: str) -> float:
        left, at = self._left.get(network_of(address), (self._burst, 0.0))
        return min(self._burst, left + (time.monotonic() - at) * self._a_second)

    def _keep(self, address: str, left: float) -> None:
        self._left[network_of(address)] = (left, time.monotonic())
        self._left.move_to_end(network_of(address))
        if len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
