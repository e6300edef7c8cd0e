"""Operations: commands, migrations, months of the outbox, replays of parked messages, audits."""
