"""A search: settings that Optuna proposes, tried by runs that are compared on validation images."""
