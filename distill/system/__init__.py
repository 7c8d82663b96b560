"""What every room uses: files, device, threads, progress, random streams."""
