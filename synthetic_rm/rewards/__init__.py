"""F3: reward models. Each is a callable pytree, so it can be jitted, vmapped, stacked and wrapped."""
