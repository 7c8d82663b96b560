"""What an attacker does to the pixels that an agent sees."""
