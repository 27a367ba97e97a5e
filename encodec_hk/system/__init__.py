"""What has nothing to do with sound: files, the machine, signals, optional packages."""
