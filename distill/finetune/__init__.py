"""Learning from reward: PPO on a student's own games, with a teacher beside it or without one."""
