import sys

from loadtest.faults.run import main

sys.exit(main())
