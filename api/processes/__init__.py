"""A file a process: settings in, adapters built, ports bound, served until told to stop."""
