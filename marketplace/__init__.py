"""The shell and the shared kernel: settings, urls, errors, decisions, queue, storage, api and html."""
