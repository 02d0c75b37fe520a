"""An evaluation protocol: what will be measured and which result means go, fixed before anyone has seen a number."""
