"""Take live events in by Spark Structured Streaming, and renew the lists of the users concerned."""

import sys

from recsys_spark.streaming.command import main

if __name__ == "__main__":
    sys.exit(main())
