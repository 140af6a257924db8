"""Where this package meets other systems; each module needs an extra of its own."""
