select city, count(*) as customers
from {{ source('crm', 'customers') }}
group by city
