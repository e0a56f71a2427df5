"""``flask streaming doctor``: looks at the application and its server, says what to change."""
