"""Several processes behind one port: a parent, its workers, each the ordinary service, and HAProxy before them."""
