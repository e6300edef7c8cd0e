"""What operators run, and what looks after the books: commands, migrations, replays, audits."""
