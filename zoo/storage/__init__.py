"""Files, folders, locks and caches that survive kills and full disks."""
