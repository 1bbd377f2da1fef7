"""What a job is: JobSpec, Job, upload paths, secrets. Imports nothing else of jobs."""
