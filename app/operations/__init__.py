"""Operations: commands, migrations, replays of parked messages, and audits."""
