"""Schema migrations (Alembic), shipped as `flywheel_migrations`."""
